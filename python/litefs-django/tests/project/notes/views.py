import litefs_django.errors as errors
from django.db import transaction
from django.http import HttpResponse
from litefs_django.consistency import idempotent

from notes.models import Note


def add(request, text):
    with transaction.atomic():
        Note.objects.create(text=text)
    return HttpResponse("added")


add_again = idempotent(lambda request, text: add(request, text))


async def add_async(request, text):
    await Note.objects.acreate(text=text)
    return HttpResponse("added")


def count(request):
    return HttpResponse(str(Note.objects.count()))


async def count_async(request):
    return HttpResponse(str(await Note.objects.acount()))


def session(request):
    request.session["n"] = request.session.get("n", 0) + 1
    return HttpResponse(str(request.session["n"]))


def _fail(request, which):
    raise getattr(errors, which)("as a test has it")


def fail(request, which):
    return _fail(request, which)
