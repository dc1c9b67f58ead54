"""Health checks for load balancers, by way of the application: the node says, and the application lives."""

from __future__ import annotations

from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from litefs_py import LitefsError
from litefs_py.adapters.http.calls import HEALTH_CHECKS

from litefs_django import conf


@never_cache
@require_safe
def health(request: HttpRequest, check: str = "readiness") -> JsonResponse:
    """200 or 503, as the node's own `/primary`, `/replica`, `/readiness`…"""
    if check not in HEALTH_CHECKS:
        raise Http404
    if not conf.litefs().enabled:
        return JsonResponse({"state": "no node", "role": "primary"})
    try:
        found = conf.mount().client.health(check, lag=request.GET.get("lag"))
    except LitefsError as error:
        return JsonResponse({"state": "down", "reason": type(error).__name__}, status=503)
    body = {
        "state": found.state,
        "role": found.role,
        "lag_ms": found.lag_ms,
        "reason": found.reason,
    }
    return JsonResponse(body, status=200 if found.ok else 503)
