"""Find faults in the data before training.

Read in this order: `survey` runs the checks. `images` lists the images of all splits. `headers` and `pixels` check
single images, `duplicates` compares images, and `classes` checks class names, class counts and groups. `report` writes
the result as text, JSON and HTML.
"""
