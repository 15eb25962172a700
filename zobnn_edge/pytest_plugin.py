"""A pytest plugin: tests of one's own network that run unchanged on the host, on emulated boards and on real ones.

    pytest                                                             on the host
    pytest --zobnn-target qemu:mps2-an386                              on an emulated board
    pytest --zobnn-target serial:/dev/ttyACM0 --zobnn-target qemu:microbit -n 2

Every test that takes the fixture `board` runs on each target. With pytest-xdist the tests of one target stay in one
worker, so that each board has a worker of its own and all boards work at the same time.

Nothing of zobnn-edge is imported before a test takes the fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from zobnn_edge.model_file import Model
    from zobnn_edge.network import Network
    from zobnn_edge.targets import Target

    Loader = Callable[[Model | Network | Path | str], Target]

_OPTION = "--zobnn-target"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that says where tests run."""
    parser.getgroup("zobnn", "binary networks on boards").addoption(
        _OPTION,
        action="append",
        default=[],
        metavar="TARGET",
        help="host (the default), native, qemu:BOARD or serial:PORT; may be repeated: every test runs on each",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes the fixture `board` becomes one for each target."""
    if "zobnn_target" in metafunc.fixturenames:
        targets = _targets(metafunc.config) or ["host"]
        metafunc.parametrize("zobnn_target", targets, ids=[f"on {target}" for target in targets], scope="session")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a target in one worker, unless another way of distributing was asked for."""
    targets = _targets(config)
    if not targets or config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByTarget(LoadScopeScheduling):  # type: ignore[misc,unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            return next((t for t in sorted(targets, key=len, reverse=True) if f"on {t}" in nodeid), nodeid)

    return ByTarget(config, log)


def _targets(config: pytest.Config) -> list[str]:
    """The targets asked for, each once."""
    return list(dict.fromkeys(config.getoption(_OPTION)))


class _Place:
    """A target that is opened when it is first needed and kept for the tests to come."""

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._target: Target | None = None

    def load(self, what: Model | Network | Path | str) -> Target:
        """The target with a model in it as built: no bit flipped, no inputs set."""
        import numpy as np

        model = _model(what)
        target = self._with(model)
        target.put_inputs(np.empty((0, *model.network.input_shape), np.float32))
        return target

    def _with(self, model: Model) -> Target:
        from zobnn_edge.errors import TargetError, ZobnnError
        from zobnn_edge.targets import open_target

        if self._target is None:
            try:
                self._target = open_target(self._spec, model)
            except ZobnnError as error:
                pytest.fail(str(error), pytrace=False)
        elif (self._target.model.plan, self._target.model.image.data) != (model.plan, model.image.data):
            self._target.load(model)
        else:
            try:
                self._target.restore()
            except TargetError:  # the test before has broken it
                self._target.reset()
        return self._target

    def close(self) -> None:
        if self._target:
            self._target.close()


def _model(what: Model | Network | Path | str) -> Model:
    from zobnn_edge import model_file
    from zobnn_edge.network import Network

    if isinstance(what, Network):
        return model_file.Model.of(what)
    return what if isinstance(what, model_file.Model) else model_file.load(Path(what))


@pytest.fixture(scope="session")
def _zobnn_place(zobnn_target: str) -> Iterator[_Place]:
    place = _Place(zobnn_target)
    yield place
    place.close()


@pytest.fixture
def board(_zobnn_place: _Place) -> Loader:
    """`board(model)` is a target (zobnn_edge.targets.Target) with the model in it, as built and without inputs.

    `model` is a Model, a Network or the path of a .zob file. There is one board: a second call replaces the model.
    """
    return _zobnn_place.load
