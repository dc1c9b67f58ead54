from django.db import models


class Entry(models.Model):
    # Of the form: a form that is sent twice makes one entry.
    form = models.UUIDField(unique=True)
    text = models.CharField(max_length=200)
    made = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return self.text
