"""Celery: a task's delay, its call for one job, without a result backend."""

from celery import Celery
from measuring import PAYLOAD, asked, measure


def work(text: str) -> None:
    """Never run here."""


url, seconds = asked()
app = Celery("tasks", broker=url)
task = app.task(work, name="work", ignore_result=True)
measure(lambda: task.delay(**PAYLOAD), seconds)
