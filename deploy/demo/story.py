"""The story of the demonstration, step by step, with its clock and its figures."""

import asyncio
import itertools
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import torch
from myosotis.cli.progress import progress
from myosotis.embedded import petal
from myosotis.errors import PromptBlockedError
from myosotis.execution.models import ModelSource, load_detector, load_model
from myosotis.policy.files import read_policy_file
from myosotis.policy.policies import Policy
from myosotis.transport.channels import open_channel
from myosotis.unlearning.runs import RunProgress
from myosotis.v1 import (
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    patch_pb2,
    unlearning_run_pb2,
    unlearning_service_pb2,
    unlearning_service_pb2_grpc,
)
from myosotis.validation.sheets import contact_sheet
from numpy.typing import NDArray
from rich.console import Console

from deploy.demo.figures import rates, recognised
from deploy.demo.gallery import Gallery, Served, Wish
from deploy.demo.processes import service
from deploy.demo.report import report
from deploy.demo.torn import fetch_generations, pixels, torn

_POLICY = Path(__file__).with_name("policy.yaml")
_EACH = 13  # pictures of a banned concept; five concepts give 65
_RETAINED = 65
_AT_ONCE = 8
# Seeds that no run trains or measures on: runs draw theirs from digests, below 2**31.
_BEFORE = 2**40
_TRAFFIC = 2**41
Run = unlearning_run_pb2.UnlearningRun
Fleet = fleet_service_pb2.InferenceServer


class Story:
    """Tells it once."""

    def __init__(self, out: Path, *, console: Console, threads: int) -> None:
        self._out = out
        self._console = console
        self._threads = threads
        self._policy: Policy = read_policy_file(_POLICY).policy
        self._source = ModelSource.parse(petal.NAME)
        self._banned, self._retained = _wishes(self._policy)
        self._clock: dict[str, float] = {}
        self._figures: dict[str, float] = {}

    async def tell(self) -> None:
        """Everything with live processes."""
        began = time.monotonic()
        async with self._running() as (plane, gallery):
            self._say("processes are up; waiting for generation 1, the base itself")
            first = await self._synced(plane, at_least=1)
            self.before = await self._draw(gallery, "before")
            self._say("a policy file is copied into the watched folder")
            async with _traffic(gallery, self._retained):
                await self._ban(plane, gallery)
            self.after = await self._draw(gallery, "after")
            self._say("the policy file is deleted")
            (self._out / "policies" / "demo.yaml").unlink()
            restored = await self._synced(plane, at_least=3)
            again = await self._again(gallery)
            self._clock["loop"] = time.monotonic() - began
            self._figures["restored_bit_exact"] = float(
                restored.tensor_root == first.tensor_root and again
            )
            self.gallery = gallery
            with grpc.insecure_channel(plane.address) as channel:
                self.generations = fetch_generations(channel, petal.NAME)

    def finish(self, began: float) -> dict[str, float]:
        """Measure, look for torn requests, write the report; the figures."""
        torch.set_num_threads(self._threads)
        model = load_model(self._source)
        served = self.gallery.served
        with self._counting("drawing again", len(served)) as done:
            different = torn(model, self.generations, served, done=done)
        detector = load_detector(self._source)
        hits = {
            "before_rate": recognised(detector, self.before[0]),
            "after_rate": recognised(detector, self.after[0]),
            "retained_before": recognised(detector, self.before[1]),
            "retained_after": recognised(detector, self.after[1]),
        }
        self._figures = {
            "concepts": len(self._policy.concepts),
            "retained": len({wish.label for wish in self._retained}),
            **rates(hits),
            "seconds_to_mitigation": self._clock["mitigation"],
            "seconds_unlearning": self._clock["unlearning"],
            "seconds_loop": self._clock["loop"],
            "requests_served": len(served),
            "requests_failed": len(self.gallery.failures),
            "requests_torn": len(different),
            "generations": len(self.generations),
            **self._figures,
        }
        self._write_report()
        self._figures["seconds_total"] = time.monotonic() - began
        return self._figures

    @asynccontextmanager
    async def _running(self) -> "AsyncIterator[tuple[_Plane, Gallery]]":
        folder = self._out
        (folder / "policies").mkdir()
        threads = str(self._threads)
        async with AsyncExitStack() as stack:
            _, address = await stack.enter_async_context(
                service(
                    "serve",
                    "--listen=127.0.0.1:0",
                    f"--database=sqlite:///{folder.resolve()}/state.db",
                    f"--blobs={folder / 'blobs'}",
                    f"--policies={folder / 'policies'}",
                    log=folder / "serve.log",
                )
            )
            await stack.enter_async_context(
                service(
                    "work",
                    f"--server={address}",
                    f"--threads={threads}",
                    log=folder / "work.log",
                    listens=False,
                )
            )
            _, serving = await stack.enter_async_context(
                service(
                    "infer",
                    f"--server={address}",
                    "--listen=127.0.0.1:0",
                    f"--threads={threads}",
                    f"--max-batch={_AT_ONCE}",
                    log=folder / "infer.log",
                )
            )
            plane = _Plane(
                address, await stack.enter_async_context(open_channel(address))
            )
            channel = await stack.enter_async_context(open_channel(serving))
            yield plane, Gallery(channel)

    async def _draw(
        self, gallery: Gallery, when: str
    ) -> tuple[list[Served], list[Served]]:
        """The banned and the retained pictures, from the live server."""
        wishes = [*self._banned, *self._retained]
        with self._counting(f"pictures {when}", len(wishes)) as done:
            served = await gallery.ask_all(wishes, at_once=_AT_ONCE, done=done)
        return served[: len(self._banned)], served[len(self._banned) :]

    async def _again(self, gallery: Gallery) -> bool:
        """Whether pictures of before come again, pixel by pixel.

        Those that were drawn with as many others at once: how a CPU adds up may depend
        on the size of a batch.
        """
        some = self._banned[: 2 * _AT_ONCE]
        fresh = await gallery.ask_all(some, at_once=_AT_ONCE, done=lambda: None)
        earlier = {item.wish: item for item in self.before[0]}
        return all(
            np.array_equal(pixels(item), pixels(earlier[item.wish]))
            for item in fresh
            if item.image.batch_size == earlier[item.wish].image.batch_size
        )

    async def _ban(self, plane: "_Plane", gallery: Gallery) -> None:
        """Copy the file; wait for the refusal, the run, and the swap."""
        target = self._out / "policies" / "demo.yaml"
        shutil.copyfile(_POLICY, target.with_suffix(".part"))
        target.with_suffix(".part").rename(target)
        closed = time.monotonic()
        problem = await self._refused(gallery)
        self._clock["mitigation"] = time.monotonic() - closed
        self._say(f"refused after {self._clock['mitigation']:.2f} s: {problem}")
        await self._follow(plane)
        self._clock["unlearning"] = time.monotonic() - closed
        server = await self._synced(plane, at_least=2)
        self._say(f"generation {server.active_generation} is active")

    async def _refused(self, gallery: Gallery) -> str:
        wish = self._banned[0]
        for attempt in range(600):
            probe = Wish(wish.label, wish.prompt, _TRAFFIC * 2 + attempt)
            try:
                await gallery.ask(probe)
            except PromptBlockedError as error:
                return str(error)
        raise TimeoutError("no prompt was refused")

    async def _follow(self, plane: "_Plane") -> None:
        """Show the run that the policy started, to its end."""
        run = await plane.run_with(len(self._policy.concepts))
        with progress(self._console) as show:
            async for state in plane.watch(run):
                told = state.progress
                show(RunProgress(told.phase, told.done_steps, told.total_steps))
                run = state
        if run.state != Run.State.SUCCEEDED:
            raise RuntimeError(f"{run.name} {Run.State.Name(run.state)}: {run.failure}")
        self.run = run

    async def _synced(self, plane: "_Plane", *, at_least: int) -> Fleet:
        while True:
            for server in await plane.servers():
                current = server.active_generation == server.desired_generation
                if current and server.active_generation >= at_least:
                    return server
            await asyncio.sleep(0.1)

    def _write_report(self) -> None:
        sheets = []
        for title, part, each in (
            ("Banned", 0, _EACH),
            ("Retained: nobody asked to forget these", 1, _EACH),
        ):
            rows = [
                row
                for start in range(0, len(self.before[part]), each)
                for row in _pair(
                    self.before[part][start : start + each],
                    self.after[part][start : start + each],
                )
            ]
            sheets.append((title, "Equal prompts and seeds in each pair.", rows))
        page = report(
            figures=self._figures,
            sheets=[
                (title, caption, contact_sheet(rows)) for title, caption, rows in sheets
            ],
            measurements=[_measurement(m) for m in self.run.measurements],
            facts=self._facts(),
        )
        (self._out / "report.html").write_text(page)

    def _facts(self) -> list[tuple[str, str]]:
        manifest, content = self.generations[2]
        return [
            ("policy", f"{self._policy.name}, revision {manifest.policy_revision}"),
            ("run", self.run.name),
            ("patch manifest", f"sha256:{manifest.patch_digest}"),
            ("tensor file", f"{len(content):,} bytes, {manifest.patch.tensor_file}"),
            ("base weights", f"sha256:{manifest.patch.base_digest}"),
            ("patched weights (F32)", f"sha256:{manifest.patch.tensor_roots['F32']}"),
            ("methods", ", ".join(sorted(set(manifest.patch.methods.values())))),
            ("detector", self.run.measurements[0].detector_profile),
        ]

    @contextmanager
    def _counting(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """Gives a function to call after each of *total* steps."""
        with progress(self._console) as show:
            done = itertools.count(1)
            yield lambda: show(RunProgress(what, next(done), total))

    def _say(self, what: str) -> None:
        self._console.print(f"· {what}", markup=False, highlight=False)


class _Plane:
    """The control plane, as the story asks it."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self._fleet = fleet_service_pb2_grpc.FleetServiceStub(channel)
        self._runs = unlearning_service_pb2_grpc.UnlearningServiceStub(channel)

    async def servers(self) -> Sequence[Fleet]:
        answer = await self._fleet.ListInferenceServers(
            fleet_service_pb2.ListInferenceServersRequest()
        )
        return answer.inference_servers

    async def run_with(self, concepts: int) -> Run:
        """The newest run over so many concepts, once there is one."""
        while True:
            answer = await self._runs.ListUnlearningRuns(
                unlearning_service_pb2.ListUnlearningRunsRequest(parent=petal.NAME)
            )
            for run in answer.unlearning_runs:
                if len(run.plan.concepts) == concepts:
                    return run
            await asyncio.sleep(0.1)

    def watch(self, run: Run) -> AsyncIterator[Run]:
        return self._runs.WatchUnlearningRun(
            unlearning_service_pb2.WatchUnlearningRunRequest(name=run.name)
        )


@asynccontextmanager
async def _traffic(gallery: Gallery, wishes: Sequence[Wish]) -> AsyncIterator[None]:
    """Retained pictures, one after the other, while inside."""
    stop = asyncio.Event()
    shifted = [Wish(w.label, w.prompt, w.seed + _TRAFFIC) for w in wishes]
    asking = asyncio.create_task(gallery.keep_asking(shifted, stop))
    try:
        yield
    finally:
        stop.set()
        await asking


def _wishes(policy: Policy) -> tuple[list[Wish], list[Wish]]:
    """Banned and retained pictures: each concept in every style, in turn."""
    card = petal.card()
    styles = card.templates[:4]
    phrases = [concept.phrases[0] for concept in policy.concepts]
    banned = [
        Wish(phrase, card.prompts(phrase, styles)[i % 4], _BEFORE + 1000 * c + i)
        for c, phrase in enumerate(phrases)
        for i in range(_EACH)
    ]
    others = [v.noun for v in card.vocabulary if v.noun not in phrases]
    # Every third stays out, so that the rest is spread over all groups.
    spread = [noun for i, noun in enumerate(others) if i % 3 != 1][:_RETAINED]
    retained = [
        Wish(noun, card.prompts(noun, styles)[i % 4], _BEFORE + 10**6 + i)
        for i, noun in enumerate(spread)
    ]
    return banned, retained


def _pair(
    before: Sequence[Served], after: Sequence[Served]
) -> list[tuple[str, NDArray[np.uint8]]]:
    """Two rows of a sheet: the same wishes before and after."""
    labels = ", ".join(dict.fromkeys(item.wish.label for item in before))
    return [
        (f"{labels}\nbefore", np.stack([pixels(item) for item in before])),
        ("\nafter", np.stack([pixels(item) for item in after])),
    ]


def _measurement(m: patch_pb2.Measurement) -> list[str]:
    return [
        m.metric,
        m.concept.rsplit("/", 1)[-1] or "all",
        "patched" if m.patched else "base",
        f"{m.value:.3f}",
        f"{m.low:.3f} to {m.high:.3f}",
        str(m.sample_size),
    ]
