from django.contrib import admin

from board.models import Entry

admin.site.register(Entry)
