"""Find faults in the data before training.

Read in this order: `survey` runs all checks. `images` lists the images of all splits. `headers` and `pixels` check
single images, `duplicates` compares images, and `classes` checks class names, counts and groups. `report` describes the
result in text and JSON, and `page` as an HTML page.
"""
