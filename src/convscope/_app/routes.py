"""Addresses → payloads: everything that is only looked up; ``?model=1`` is the second network."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request

from convscope._app import analysis_api, input_api, model_api
from convscope._app.analysis_api import UnitIndex
from convscope._app.atlas_api import AtlasApi
from convscope._app.jobs import Jobs
from convscope._app.session import Session
from convscope._app.wire import MAX_SIDE, PNG, Payload, json_payload
from convscope._errors import UnknownLayer, UsageError

_MAX_DIGITS = 9


class Parameters:
    """The parameters of a request, each checked as it is read."""

    def __init__(self, request: Request) -> None:
        self._path, self._query = request.path_params, request.query_params

    @property
    def id(self) -> str:
        """Of an input image or a job."""
        return str(self._path["id"])

    @property
    def layer(self) -> int:
        """Index of the layer in the path."""
        return self.path("layer")

    @property
    def method(self) -> str:
        """An attribution method."""
        return self.text("method", "gradcam")

    def path(self, name: str) -> int:
        """A number that is part of the path."""
        return int(self._path[name])

    def text(self, name: str, default: str) -> str:
        """A parameter of the query as it stands."""
        return self._query.get(name, default)

    def number(self, name: str) -> int | None:
        """An integer of the query, or ``None`` where it is not given."""
        text = self._query.get(name)
        if text is None:
            return None
        digits = text[1:] if text.startswith("-") else text
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
            raise UsageError(f"{name}={text[:40]!r} is not an integer")
        return int(text)

    def number_or(self, name: str, default: int) -> int:
        """An integer of the query, or ``default`` where it is not given."""
        number = self.number(name)
        return default if number is None else number

    def position(self) -> tuple[int, int] | None:
        """A row and a column, where they are given."""
        y, x = self.number("y"), self.number("x")
        if (y is None) != (x is None):
            raise UsageError("A position is ?y=ROW&x=COLUMN")
        return None if y is None or x is None else (y, x)

    def unit(self) -> UnitIndex | None:
        """A layer and a channel, where they are given."""
        layer, channel = self.number("layer"), self.number("channel")
        if (layer is None) != (channel is None):
            raise UsageError("A unit is ?layer=INDEX&channel=NUMBER")
        return None if layer is None or channel is None else (layer, channel)


Lookups = dict[str, Callable[[Parameters], Payload]]


def lookups(session: Session, atlas: AtlasApi, jobs: Jobs) -> Lookups:
    """All lookups, by their address below ``api/``."""
    return {
        **_model_lookups(session),
        **_input_lookups(session),
        **_analysis_lookups(session),
        **_file_lookups(session),
        **_atlas_lookups(atlas),
        **_job_lookups(jobs),
    }


def _chosen(session: Session, q: Parameters) -> Session:
    """The session of the network that a request names: the first, or the second."""
    index = q.number_or("model", 0)
    if index == 0:
        return session
    if index != 1 or session.other is None:
        raise UnknownLayer(f"No network {index} here. A second one is given as -m A -m B")
    return session.other


def _model_lookups(s: Session) -> Lookups:
    return {
        "model": lambda q: model_api.model(_chosen(s, q)),
        "layers": lambda q: model_api.layers(_chosen(s, q)),
        "filters/{layer:int}": lambda q: model_api.layer_filters(
            _chosen(s, q), q.layer, q.number("channel")
        ),
    }


def _input_lookups(s: Session) -> Lookups:
    base = "inputs/{id}"
    return {
        "inputs": lambda q: input_api.inputs(s),
        base: lambda q: json_payload(input_api.input_facts(_chosen(s, q).input(q.id))),
        f"{base}/image": lambda q: input_api.pixels(
            _chosen(s, q), q.id, q.text("stage", "original")
        ),
        f"{base}/predictions": lambda q: input_api.predictions(_chosen(s, q), q.id),
        f"{base}/layers": lambda q: input_api.layer_summaries(_chosen(s, q), q.id),
        f"{base}/thumbnails": lambda q: input_api.thumbnails(_chosen(s, q), q.id),
        f"{base}/receptive_fields/{{layer:int}}": lambda q: input_api.receptive_fields(
            _chosen(s, q), q.id, q.layer
        ),
        f"{base}/maps/{{layer:int}}": lambda q: input_api.maps(
            _chosen(s, q), q.id, q.layer, q.number_or("max_side", MAX_SIDE), q.number("channel")
        ),
        f"{base}/values/{{layer:int}}": lambda q: input_api.values(
            _chosen(s, q), q.id, q.layer, q.number("channel"), q.position()
        ),
    }


def _analysis_lookups(s: Session) -> Lookups:
    return {
        "inputs/{id}/attribution": lambda q: analysis_api.attribution(
            s, q.id, q.method, q.number("target"), q.unit()
        ),
        "inputs/{id}/attribution/{layer:int}": lambda q: analysis_api.channel_attribution(
            s, q.id, q.layer, q.number("target")
        ),
        "sensitivity/{layer:int}/channels/{channel:int}": (
            lambda q: analysis_api.channel_sensitivity(s, q.layer, q.path("channel"))
        ),
    }


def _file_lookups(s: Session) -> Lookups:
    """Arrays as ``.npz`` files."""
    return {
        "inputs/{id}/maps/{layer:int}.npz": lambda q: input_api.maps_file(
            _chosen(s, q), q.id, q.layer, q.number("channel")
        ),
        "inputs/{id}/pairs/{layer:int}.npz": lambda q: input_api.pair_file(
            (s, q.id, q.layer),
            (_chosen(s, q), q.text("other", q.id), q.number_or("other_layer", q.layer)),
            q.number("channel"),
        ),
        "filters/{layer:int}.npz": lambda q: model_api.filters_file(
            s, q.layer, q.number("channel")
        ),
        "inputs/{id}/attribution.npz": lambda q: analysis_api.attribution_file(
            s, q.id, q.method, q.number("target"), q.unit()
        ),
    }


def _atlas_lookups(atlas: AtlasApi) -> Lookups:
    unit = "atlas/layers/{layer:int}/channels/{channel:int}"
    return {
        "atlas/layers/{layer:int}": lambda q: atlas.layer(q.layer),
        "atlas/layers/{layer:int}/icons": lambda q: atlas.icons(q.layer),
        unit: lambda q: atlas.channel(q.layer, q.path("channel")),
        f"{unit}/sprite": lambda q: atlas.sprite(
            q.layer, q.path("channel"), q.text("list", "top.mean"), q.text("view", "crop")
        ),
        "atlas/images": lambda q: atlas.images(q.number_or("start", 0), q.number_or("count", 48)),
        "atlas/images/{image:int}": lambda q: atlas.image(q.path("image")),
        "atlas/health": lambda q: atlas.health(),
    }


def _job_lookups(jobs: Jobs) -> Lookups:
    return {
        "jobs": lambda q: json_payload({"jobs": [job.to_dict() for job in jobs.all()]}),
        "jobs/{id}": lambda q: json_payload(jobs.get(q.id).to_dict()),
        "jobs/{id}/image": lambda q: _job_image(jobs, q.id),
    }


def _job_image(jobs: Jobs, id: str) -> Payload:
    job = jobs.get(id)
    if not job.image:
        raise UnknownLayer(f"Job {job.id} has no image yet")
    return Payload(job.image, PNG)
