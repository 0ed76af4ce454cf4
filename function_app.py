"""The triggers, and nothing else: each hands its input to the app and returns its answer."""

from __future__ import annotations

import os
from datetime import datetime

import azure.functions as func

from remediation.start import app as responder_app
from remediation.start import check

check(os.environ)
app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)


@app.event_grid_trigger(arg_name="event")
def on_alert(event: func.EventGridEvent) -> None:
    """A Defender alert, as a CloudEvent or in Event Grid's own schema."""
    at: datetime | None = getattr(event, "event_time", None) or getattr(event, "time", None)
    responder_app().on_alert(event.get_json(), event_id=event.id, event_time=at)


@app.event_grid_trigger(arg_name="event")
def on_firewall_change(event: func.EventGridEvent) -> None:
    """A resource of the subscription was written, deleted or acted upon: was it a firewall's?"""
    at: datetime | None = getattr(event, "event_time", None) or getattr(event, "time", None)
    responder_app().on_firewall_change({
        "type": getattr(event, "event_type", None) or getattr(event, "type", None),
        "subject": event.subject, "data": event.get_json(), "time": at.isoformat() if at else ""})


@app.timer_trigger(arg_name="timer", schedule="%SWEEP_SCHEDULE%", use_monitor=True)
def sweep(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding wants it
    """Lift what is due, finish what is unfinished."""
    responder_app().on_timer()


@app.queue_trigger(
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


@app.route(route="replay", methods=["POST"])
def replay(req: func.HttpRequest) -> func.HttpResponse:
    """Replay an alert, or show what it would do."""
    return _serve("replay", req)


@app.route(route="blocks", methods=["GET"])
def blocks(req: func.HttpRequest) -> func.HttpResponse:
    """List blocks."""
    return _serve("blocks", req)


@app.route(route="blocks/revoke", methods=["POST"])
def revoke(req: func.HttpRequest) -> func.HttpResponse:
    """Lift blocks now, and hold."""
    return _serve("revoke", req)


@app.route(route="blocks/extend", methods=["POST"])
def extend(req: func.HttpRequest) -> func.HttpResponse:
    """Let a block live longer."""
    return _serve("extend", req)


@app.route(route="approvals", methods=["GET"])
def approvals(req: func.HttpRequest) -> func.HttpResponse:
    """List questions."""
    return _serve("approvals", req)


@app.route(route="approvals/{id}", methods=["POST"])
def approve(req: func.HttpRequest) -> func.HttpResponse:
    """Answer a question."""
    return _serve("approve", req)


@app.route(route="pause", methods=["POST"])
def pause(req: func.HttpRequest) -> func.HttpResponse:
    """Stop acting."""
    return _serve("pause", req)


@app.route(route="resume", methods=["POST"])
def resume(req: func.HttpRequest) -> func.HttpResponse:
    """Act again."""
    return _serve("resume", req)


@app.route(route="protected", methods=["GET"])
def protected(req: func.HttpRequest) -> func.HttpResponse:
    """The protected list."""
    return _serve("protected", req)


@app.route(route="protected", methods=["PUT"])
def protect(req: func.HttpRequest) -> func.HttpResponse:
    """Replace the protected list."""
    return _serve("protect", req)


@app.route(route="alerts/{id}", methods=["GET"])
def alert(req: func.HttpRequest) -> func.HttpResponse:
    """An alert: normal form, plan, timeline."""
    return _serve("alert", req)


@app.route(route="firewall", methods=["GET"])
def firewall(req: func.HttpRequest) -> func.HttpResponse:
    """Rogue firewall rules, and what is approved."""
    return _serve("firewall", req)


@app.route(route="firewall/scan", methods=["POST"])
def firewall_scan(req: func.HttpRequest) -> func.HttpResponse:
    """Look at a firewall now, or at all of them soon."""
    return _serve("firewall_scan", req)


@app.route(route="firewall/decide/{id}", methods=["POST"])
def firewall_decide(req: func.HttpRequest) -> func.HttpResponse:
    """Say yes or no to a removal."""
    return _serve("firewall_decide", req)


@app.route(route="firewall/approve", methods=["POST"])
def firewall_approve(req: func.HttpRequest) -> func.HttpResponse:
    """Approve a rule: it is silent until it changes."""
    return _serve("firewall_approve", req)


@app.route(route="firewall/restore/{id}", methods=["POST"])
def firewall_restore(req: func.HttpRequest) -> func.HttpResponse:
    """Put back what was taken out."""
    return _serve("firewall_restore", req)


@app.route(route="health", methods=["GET"])
def health(req: func.HttpRequest) -> func.HttpResponse:
    """What is reachable."""
    return _serve("health", req)
