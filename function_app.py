"""The triggers, and nothing else: each hands its input to the app and returns its answer."""

from __future__ import annotations

import os
from datetime import datetime

import azure.functions as func

from remediation.start import app as responder_app
from remediation.start import check

check(os.environ)
inside = func.Blueprint()  # type: ignore[no-untyped-call]  # azure-functions leaves it untyped
"""What looks into machines: the guest app has nothing else, so nothing of it faces the internet."""
outside = func.Blueprint()  # type: ignore[no-untyped-call]  # as above
"""Everything else: events, timers, the HTTP API."""


@inside.queue_trigger(
    arg_name="message", queue_name="%INVESTIGATION_QUEUE%", connection="AzureWebJobsStorage"
)
def investigate(message: func.QueueMessage) -> None:
    """One step on one machine."""
    responder_app().on_investigate(message.get_body().decode())


@inside.queue_trigger(
    arg_name="message", queue_name="%INVESTIGATION_QUEUE%-poison", connection="AzureWebJobsStorage"
)
def investigate_poison(message: func.QueueMessage) -> None:
    """A message that failed again and again."""
    responder_app().on_poison(message.get_body().decode(errors="replace"))


@outside.event_grid_trigger(arg_name="event")
def on_alert(event: func.EventGridEvent) -> None:
    """A Defender alert, as a CloudEvent or in Event Grid's own schema."""
    at: datetime | None = getattr(event, "event_time", None) or getattr(event, "time", None)
    responder_app().on_alert(event.get_json(), event_id=event.id, event_time=at)


@outside.event_grid_trigger(arg_name="event")
def on_firewall_change(event: func.EventGridEvent) -> None:
    """A resource of the subscription was written, deleted or acted upon: was it a firewall's?"""
    at: datetime | None = getattr(event, "event_time", None) or getattr(event, "time", None)
    responder_app().on_firewall_change({
        "type": getattr(event, "event_type", None) or getattr(event, "type", None),
        "subject": event.subject, "data": event.get_json(), "time": at.isoformat() if at else ""})


@outside.event_grid_trigger(arg_name="event")
def on_tick(event: func.EventGridEvent) -> None:  # noqa: ARG001 - the binding wants it
    """Every five minutes, from outside: lifting does not hang on the timer alone."""
    responder_app().on_tick()


@outside.timer_trigger(arg_name="timer", schedule="%SWEEP_SCHEDULE%", use_monitor=True)
def sweep(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding wants it
    """Lift what is due, finish what is unfinished."""
    responder_app().on_timer()


@outside.queue_trigger(
    arg_name="message", queue_name="%COMMIT_QUEUE%", connection="AzureWebJobsStorage"
)
def commit(message: func.QueueMessage) -> None:
    """An NSG with work left over."""
    responder_app().on_commit(message.get_body().decode())


def _serve(route: str, req: func.HttpRequest) -> func.HttpResponse:
    from remediation.inputs import Request

    reply = responder_app().serve(
        route,
        Request(
            url=req.url,
            body=req.get_body(),
            query=dict(req.params),
            params=dict(req.route_params),
            headers={k.lower(): v for k, v in req.headers.items()},
        ),
    )
    return func.HttpResponse(reply.text, status_code=reply.status, mimetype="application/json")


@outside.route(route="replay", methods=["POST"])
def replay(req: func.HttpRequest) -> func.HttpResponse:
    """Replay an alert, or show what it would do."""
    return _serve("replay", req)


@outside.route(route="blocks", methods=["GET"])
def blocks(req: func.HttpRequest) -> func.HttpResponse:
    """List blocks."""
    return _serve("blocks", req)


@outside.route(route="blocks/revoke", methods=["POST"])
def revoke(req: func.HttpRequest) -> func.HttpResponse:
    """Lift blocks now, and hold."""
    return _serve("revoke", req)


@outside.route(route="blocks/extend", methods=["POST"])
def extend(req: func.HttpRequest) -> func.HttpResponse:
    """Let a block live longer."""
    return _serve("extend", req)


@outside.route(route="approvals", methods=["GET"])
def approvals(req: func.HttpRequest) -> func.HttpResponse:
    """List questions."""
    return _serve("approvals", req)


@outside.route(route="approvals/{id}", methods=["POST"])
def approve(req: func.HttpRequest) -> func.HttpResponse:
    """Answer a question."""
    return _serve("approve", req)


@outside.route(route="pause", methods=["POST"])
def pause(req: func.HttpRequest) -> func.HttpResponse:
    """Stop acting."""
    return _serve("pause", req)


@outside.route(route="resume", methods=["POST"])
def resume(req: func.HttpRequest) -> func.HttpResponse:
    """Act again."""
    return _serve("resume", req)


@outside.route(route="protected", methods=["GET"])
def protected(req: func.HttpRequest) -> func.HttpResponse:
    """The protected list."""
    return _serve("protected", req)


@outside.route(route="protected", methods=["PUT"])
def protect(req: func.HttpRequest) -> func.HttpResponse:
    """Replace the protected list."""
    return _serve("protect", req)


@outside.route(route="alerts/{id}", methods=["GET"])
def alert(req: func.HttpRequest) -> func.HttpResponse:
    """An alert: normal form, plan, timeline."""
    return _serve("alert", req)


@outside.route(route="alerts/{id}/pack", methods=["GET"])
def pack(req: func.HttpRequest) -> func.HttpResponse:
    """The message to the security team, as it would be now."""
    return _serve("pack", req)


@outside.route(route="investigations", methods=["POST"])
def investigations(req: func.HttpRequest) -> func.HttpResponse:
    """Look into an alert's machines, or do steps anew."""
    return _serve("investigate", req)


@outside.route(route="firewall", methods=["GET"])
def firewall(req: func.HttpRequest) -> func.HttpResponse:
    """Rogue firewall rules, and what is approved."""
    return _serve("firewall", req)


@outside.route(route="firewall/scan", methods=["POST"])
def firewall_scan(req: func.HttpRequest) -> func.HttpResponse:
    """Look at a firewall now, or at all of them soon."""
    return _serve("firewall_scan", req)


@outside.route(route="firewall/decide/{id}", methods=["POST"])
def firewall_decide(req: func.HttpRequest) -> func.HttpResponse:
    """Say yes or no to a removal."""
    return _serve("firewall_decide", req)


@outside.route(route="firewall/approve", methods=["POST"])
def firewall_approve(req: func.HttpRequest) -> func.HttpResponse:
    """Approve a rule: it is silent until it changes."""
    return _serve("firewall_approve", req)


@outside.route(route="firewall/restore/{id}", methods=["POST"])
def firewall_restore(req: func.HttpRequest) -> func.HttpResponse:
    """Put back what was taken out."""
    return _serve("firewall_restore", req)


@outside.route(route="health", methods=["GET"])
def health(req: func.HttpRequest) -> func.HttpResponse:
    """What is reachable."""
    return _serve("health", req)


@outside.route(route="selftest", methods=["POST"])
def selftest(req: func.HttpRequest) -> func.HttpResponse:
    """Send a sample alert the whole way."""
    return _serve("selftest", req)


@outside.route(route="selftest", methods=["GET"])
def selftested(req: func.HttpRequest) -> func.HttpResponse:
    """How far the last self-test is, or what it came to."""
    return _serve("selftested", req)


app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
app.register_functions(inside)
if os.environ.get("RESPONDER_ROLE", "").lower() != "guest":
    app.register_functions(outside)
