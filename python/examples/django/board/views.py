import uuid

from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.utils.html import format_html, format_html_join
from django.views.decorators.http import require_POST
from litefs_django.consistency import idempotent

from board.models import Entry

PAGE = """<!doctype html><meta charset="utf-8"><title>Board</title>
<form method="post" action="/add">
<input type="hidden" name="csrfmiddlewaretoken" value="{}"><input type="hidden" name="form" value="{}">
<input name="text" id="text" required maxlength="200"><button id="send">Add</button></form>
<p><span id="count">{}</span> entries</p><ul>{}</ul>"""


def board(request):
    entries = Entry.objects.order_by("-id")[:20]
    listed = format_html_join("", "<li>{}</li>", ((entry.text,) for entry in entries))
    count = Entry.objects.count()
    return HttpResponse(format_html(PAGE, get_token(request), uuid.uuid4(), count, listed))


@require_POST
@idempotent
def add(request):
    """May be sent again by the load balancer, also when it is not known whether it was committed."""
    form = uuid.UUID(request.POST["form"])
    Entry.objects.get_or_create(form=form, defaults={"text": request.POST["text"][:200]})
    return redirect("/")
