"""Addresses → answers: everything that is only looked up. ``m=1`` asks the second network."""

from __future__ import annotations

from collections.abc import Callable

from convscope._app import network, numbers, pictures, reasons
from convscope._app.answers import PNG, THUMB, Answer, as_json
from convscope._app.asked import Asked
from convscope._app.evidence import Evidence
from convscope._app.jobs import Jobs
from convscope._app.session import Session
from convscope._errors import UnknownLayer

Table = dict[str, Callable[[Asked], Answer]]


def lookups(session: Session, evidence: Evidence, jobs: Jobs) -> Table:
    """All of them, by their address below ``api/``."""
    return {
        **_of_networks(session),
        **_of_pictures(session),
        **_of_reasons(session),
        **_to_keep(session),
        **_of_atlas(evidence),
        **_of_jobs(jobs),
    }


def _asked_of(session: Session, asked: Asked, name: str = "m") -> Session:
    """The session of the network that is asked: the first, or the one it is compared with."""
    which = asked.number(name, 0)
    if which == 0:
        return session
    if which != 1 or session.other is None:
        raise UnknownLayer(f"No network {which} here. A second one is given as -m A -m B")
    return session.other


def _of_networks(s: Session) -> Table:
    return {
        "model": lambda q: network.model(_asked_of(s, q)),
        "layers": lambda q: network.layers(_asked_of(s, q)),
        "kernels/{layer:int}": lambda q: network.kernels(
            _asked_of(s, q), q.layer, q.number("channel")
        ),
    }


def _of_pictures(s: Session) -> Table:
    return {
        "inputs": lambda q: pictures.inputs(s),
        "inputs/{id}": lambda q: as_json(pictures.about(_asked_of(s, q).slide(q.id))),
        "inputs/{id}/image": lambda q: pictures.image(
            _asked_of(s, q), q.id, q.text("view", "original")
        ),
        "inputs/{id}/predictions": lambda q: pictures.predictions(_asked_of(s, q), q.id),
        "inputs/{id}/layers": lambda q: pictures.glances(_asked_of(s, q), q.id),
        "inputs/{id}/thumbnails": lambda q: pictures.thumbnails(_asked_of(s, q), q.id),
        "inputs/{id}/fields/{layer:int}": lambda q: pictures.field(_asked_of(s, q), q.id, q.layer),
        "inputs/{id}/maps/{layer:int}": lambda q: pictures.maps(
            _asked_of(s, q), q.id, q.layer, q.number("max", THUMB), q.number("channel")
        ),
        "inputs/{id}/values/{layer:int}": lambda q: pictures.values(
            _asked_of(s, q), q.id, q.layer, q.number("channel"), q.position()
        ),
    }


def _of_reasons(s: Session) -> Table:
    return {
        "inputs/{id}/attribution": lambda q: reasons.attribution(
            s, q.id, q.text("method", "gradcam"), q.number("target"), q.unit()
        ),
        "inputs/{id}/attribution/{layer:int}": lambda q: reasons.channel_attribution(
            s, q.id, q.layer, q.number("target")
        ),
        "sensitivity/{layer:int}/channels/{channel:int}": lambda q: reasons.felt(
            s, q.layer, q.path("channel")
        ),
    }


def _to_keep(s: Session) -> Table:
    """Numbers as files."""
    return {
        "inputs/{id}/maps/{layer:int}.npz": lambda q: numbers.maps(
            _asked_of(s, q), q.id, q.layer, q.number("channel")
        ),
        "inputs/{id}/pairs/{layer:int}.npz": lambda q: numbers.pair(
            (s, q.id, q.layer),
            (_asked_of(s, q), q.text("b", q.id), q.number("to", q.layer)),
            q.number("channel"),
        ),
        "kernels/{layer:int}.npz": lambda q: numbers.kernels(s, q.layer, q.number("channel")),
        "inputs/{id}/attribution.npz": lambda q: numbers.attribution(
            s, q.id, q.text("method", "gradcam"), q.number("target"), q.unit()
        ),
    }


def _of_atlas(atlas: Evidence) -> Table:
    unit = "atlas/layers/{layer:int}/channels/{channel:int}"
    return {
        "atlas/layers/{layer:int}": lambda q: atlas.layer(q.layer),
        "atlas/layers/{layer:int}/icons": lambda q: atlas.icons(q.layer),
        unit: lambda q: atlas.channel(q.layer, q.path("channel")),
        f"{unit}/sprite": lambda q: atlas.sprite(
            q.layer, q.path("channel"), q.text("list", "top.mean"), q.text("view", "crop")
        ),
        "atlas/images": lambda q: atlas.images(q.number("start", 0), q.number("count", 48)),
        "atlas/images/{image:int}": lambda q: atlas.image(q.path("image")),
        "atlas/findings": lambda q: atlas.findings(),
    }


def _of_jobs(jobs: Jobs) -> Table:
    return {
        "jobs": lambda q: as_json({"jobs": [job.to_dict() for job in jobs.all()]}),
        "jobs/{id}": lambda q: as_json(jobs.get(q.id).to_dict()),
        "jobs/{id}/picture": lambda q: _picture(jobs, q.id),
    }


def _picture(jobs: Jobs, id: str) -> Answer:
    job = jobs.get(id)
    if not job.picture:
        raise UnknownLayer("There is no picture yet")
    return Answer(job.picture, PNG)
