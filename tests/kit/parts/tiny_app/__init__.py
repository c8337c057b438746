"""An application of the library without a task: those of `tiny_task` are named by the configs."""

from kit.ground import app

app.use(__name__)
