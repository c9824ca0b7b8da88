"""Progress bars in Prefect: which work has one, and how often it is updated; the clock is ours."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from model.training import Epoch
from tasks.pages import prefect_artifacts
from tasks.pages.prefect_artifacts import PrefectProgress


class Server:
    """Notes what is written, as (second, key, per cent, text), and gives the time."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.written: list[tuple[float, str, float, str | None]] = []
        self.keys: dict[UUID, str] = {}
        self.rejects = False
        self.tried = 0

    def monotonic(self) -> float:
        return self.seconds

    def create(self, percent: float, key: str, text: str) -> UUID:
        self.tried += 1
        if self.rejects:
            raise RuntimeError("422 Unprocessable Entity")
        made = uuid4()
        self.keys[made] = key
        self.update(made, percent, text)
        return made

    def update(self, artifact_id: UUID, percent: float, text: str | None) -> None:
        self.written.append((self.seconds - 1000, self.keys[artifact_id], percent, text))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()
    monkeypatch.setattr(prefect_artifacts, "create_progress_artifact", found.create)
    monkeypatch.setattr(prefect_artifacts, "update_progress_artifact", found.update)
    monkeypatch.setattr(prefect_artifacts, "time", found)
    return found


def train(progress: PrefectProgress, server: Server, fit: str, epochs: int, seconds: float) -> None:
    for number in range(1, epochs + 1):
        server.seconds += seconds
        progress.epoch_finished(fit, Epoch(number, 0.7, 0.5, 0.69, 0.5, 0.001, seconds), 60)
    progress.fit_finished(fit, epochs, epochs, 60)


def step(progress: PrefectProgress, server: Server, name: str, seconds: float) -> None:
    progress.step_started(name)
    server.seconds += seconds
    progress.step_finished(name, seconds)


def test_a_run_of_less_than_five_seconds_writes_nothing(server: Server) -> None:
    progress = PrefectProgress(("ingest", "train", "report"))
    step(progress, server, "ingest", 0.5)
    for fold in range(5):
        train(progress, server, f"fold {fold + 1} of 5", 20, 0.03)
    step(progress, server, "report", 1.0)
    progress.finish("done in 5 s")
    assert server.written == []


def test_a_warm_retrain_of_twelve_seconds_writes_one_bar_three_times(server: Server) -> None:
    progress = PrefectProgress(("ingest", "train", "evaluate", "report"))
    step(progress, server, "ingest", 1.0)
    for fold in range(5):
        progress.step_started("train")
        train(progress, server, f"fold {fold + 1} of 5", 20, 0.045)
        progress.step_finished("train", 1.0)
    step(progress, server, "evaluate", 3.5)
    step(progress, server, "report", 3.0)
    progress.finish("done in 12 s")
    assert [(at, key, percent) for at, key, percent, _ in server.written] == [
        (pytest.approx(5.0, abs=0.1), "progress", 50.0),  # ingest and train are done
        (pytest.approx(12.0, abs=0.1), "progress", 100.0),  # report
        (pytest.approx(12.0, abs=0.1), "progress", 100.0),
    ]
    assert server.written[-1][3] == "done in 12 s"


def test_a_long_fit_is_updated_every_five_seconds_and_filled_at_its_end(server: Server) -> None:
    progress = PrefectProgress(("train",))
    train(progress, server, "final fit", 14, 1.0)
    assert [(at, percent) for at, _, percent, _ in server.written] == [
        (5.0, pytest.approx(100 * 5 / 60)), (10.0, pytest.approx(100 * 10 / 60)), (14.0, 100.0),
    ]  # fmt: skip
    assert server.written[-1][3] == "final fit: stopped early after 14 of 60 epochs, best epoch 14"
    progress.finish("done")
    assert len(server.written) == 3  # a full bar is not written again


def test_one_bar_covers_all_folds_however_short(server: Server) -> None:
    """In threads, two at a time: the first two take six seconds, the third one, which had no bar of its own, two."""
    progress = PrefectProgress(("train",))
    for number in range(1, 13):
        server.seconds += 0.5
        for fold in (1, 2):
            progress.epoch_finished(f"fold {fold} of 3", Epoch(number, 0.7, 0.5, 0.69, 0.5, 0.001, 0.5), 24)
    for fold in (1, 2):
        progress.fit_finished(f"fold {fold} of 3", 12, 8, 24)
    train(progress, server, "fold 3 of 3", 4, 0.5)
    assert [(at, key, percent) for at, key, percent, _ in server.written] == [
        (5.0, "folds", pytest.approx(100 * (10 / 24 + 9 / 24) / 3)),  # due before the tenth epoch of fold 2 has ended
        (8.0, "folds", 100.0),
    ]
    assert server.written[-1][3] == "fold 3 of 3: stopped early after 4 of 60 epochs, best epoch 4"


def test_a_further_seed_of_a_fold_does_not_move_the_bar_back(server: Server) -> None:
    progress = PrefectProgress(("train",))
    for fit in ("fold 01 of 12", "fold 01 of 12, seed 8"):
        for number in (1, 2, 3):
            server.seconds += 5
            progress.epoch_finished(fit, Epoch(number, 0.7, 0.5, 0.69, 0.5, 0.001, 5.0), 3)
    assert [percent for *_, percent, _ in server.written] == pytest.approx([100 / 36, 200 / 36, *[100 / 12] * 4])
    assert server.written[-1][3] == "fold 01 of 12, seed 8: epoch 3 of at most 3, loss 0.7000, validation 0.6900"


def test_the_epochs_of_a_fit_bring_the_step_up_to_date(server: Server) -> None:
    progress = PrefectProgress(("window", "train"))
    step(progress, server, "window", 6.0)
    progress.step_started("train")  # within five seconds of the last update: shown with the next epoch that is due
    assert [text for *_, text in server.written] == ["window: 6.0 s"]
    server.seconds += 5
    progress.epoch_finished("fold 1 of 5", Epoch(1, 0.7, 0.5, 0.69, 0.5, 0.001, 0.1), 60)
    assert [text for _, key, _, text in server.written if key == "progress"] == ["window: 6.0 s", "train ..."]


def test_a_run_of_more_than_a_minute_shows_each_step_as_it_starts(server: Server) -> None:
    progress = PrefectProgress(("train", "evaluate", "report"))
    step(progress, server, "train", 70.0)
    step(progress, server, "evaluate", 1.0)
    progress.step_started("report")
    assert [text for *_, text in server.written] == [
        "train: 70.0 s", "evaluate ...", "evaluate: 1.0 s", "report ...",
    ]  # fmt: skip


def test_a_server_that_rejects_bars_is_asked_every_five_seconds(server: Server, caplog: Any) -> None:
    server.rejects = True
    progress = PrefectProgress(("train",))
    train(progress, server, "final fit", 40, 0.5)
    assert server.tried == 4  # at 5, 10, 15 and 20 s
    assert "progress artifact final-fit: 422" in caplog.text
