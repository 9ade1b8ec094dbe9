"""What the figures are said to mean, on figures made up so that the answer is known."""

import dataclasses

import pytest

from fastload.bench import judgement
from fastload.bench.report import DataFacts, Limit, Speed, Training
from fastload.bench.run import thread_counts
from fastload.bench.task import Round

DATA = DataFacts(path="photos", form="folder", samples=10_000, classes=10, mean_bytes=1e5, seek_index=False)


def one_round(*, workers=2, images=1000, seconds=0.5, cpu=None, counts=None, skipped=0, **spans) -> Round:
    return Round(
        workers=workers,
        images=images,
        seconds=seconds,
        cpu_seconds=sum(spans.values()) if cpu is None else cpu,
        memory_bytes=1 << 20,
        device_bytes=0,
        spans={"wait": 0.4, **spans},
        counts=counts or {"decoder.fastload": images},
        skipped=skipped,
    )


def a_speed(workers, images_per_second) -> Speed:
    return Speed(
        workers=workers,
        images=1000,
        images_per_second=images_per_second,
        slowest=images_per_second,
        fastest=images_per_second,
        cpu_ms_per_image=0.5,
        memory_bytes=None,
        skipped=0,
    )


@pytest.mark.parametrize("cpu", [0.3, 0.9, 1.2])
def test_costs_of_stages_add_up_to_the_processor_time_of_the_process(cpu):
    rounds = [one_round(cpu=cpu, plan=0.02, read=0.1, decode=0.7, resize=0.15)] * 3
    costs = judgement.stage_costs(rounds, read_cpu_seconds=4e-5)
    assert sum(cost.cpu_ms_per_image for cost in costs) == pytest.approx(1000 * cpu / 1000)
    assert sum(cost.share for cost in costs) == pytest.approx(1)
    assert {cost.stage for cost in costs} == {"plan", "read", "decode", "resize", "rest"}


def test_a_slow_disk_is_waiting_and_no_processor_time():
    costs = judgement.stage_costs([one_round(cpu=0.54, read=0.8, decode=0.5)], read_cpu_seconds=4e-5)
    read = next(cost for cost in costs if cost.stage == "read")
    assert read.cpu_ms_per_image == pytest.approx(0.04)
    assert read.wait_ms_per_image == pytest.approx(0.76)


@pytest.mark.parametrize(
    ("name", "spans"),
    [
        ("decode", {"read": 0.05, "decode": 0.7, "resize": 0.2}),
        ("augment", {"plan": 0.1, "read": 0.05, "decode": 0.3, "resize": 0.5}),
        ("storage", {"read": 0.7, "decode": 0.2, "resize": 0.1, "cpu": 0.33}),
        ("gil", {"read": 0.05, "decode": 0.2, "resize": 0.1}),
        ("processors", {"read": 0.05, "decode": 0.7, "resize": 0.2, "cpu": 0.4}),
    ],
)
def test_the_limit_is_what_threads_spend_their_time_on(name, spans):
    assert judgement.limit_of_loader([one_round(**spans)], DATA, read_cpu_seconds=3e-5).name == name


def test_a_folder_that_decodes_is_told_to_convert_and_shards_without_index_to_index():
    rounds = [one_round(decode=0.9)]
    for data, word in (
        (DATA, "fastload convert"),
        (dataclasses.replace(DATA, form="shards"), "fastload index"),
        (dataclasses.replace(DATA, form="shards", seek_index=True), "smaller images"),
        (dataclasses.replace(DATA, form="beton"), "smaller images"),
    ):
        assert word in judgement.limit_of_loader(rounds, data, 0.0).advice


@pytest.mark.parametrize(
    ("target", "threads", "extrapolated"),
    [
        (500, 1, False),
        (1000, 1, False),
        (1001, 2, False),
        (2700, 3, False),
        (2800, 4, False),
        (3600, 4, False),
        (7000, 8, True),
    ],
)
def test_threads_for_a_speed(target, threads, extrapolated):
    scaling = [a_speed(1, 1000), a_speed(2, 1900), a_speed(4, 3600)]
    assert judgement.threads_for(target, scaling) == (threads, extrapolated)


def test_a_number_of_threads_that_slows_is_not_extrapolated_from():
    assert judgement.threads_for(2000, [a_speed(1, 1000), a_speed(2, 900)]) == (2, True)


def test_on_a_busy_machine_threads_follow_from_processor_time():
    """0.5 ms of processor time per image: 5,000 images are 2.5 s of it, whatever the speed was."""
    assert judgement.threads_for(5000, [a_speed(1, 300), a_speed(2, 310)], busy=True) == (3, True)


def test_thread_counts_double_up_to_the_most():
    assert [thread_counts(most) for most in (1, 2, 3, 8, 12)] == [
        [1],
        [1, 2],
        [1, 2, 3],
        [1, 2, 4, 8],
        [1, 2, 4, 8, 12],
    ]


@pytest.mark.parametrize(
    ("network", "together", "wait_share", "copy", "name"),
    [
        (300, 295, 0.02, None, "model"),
        (3000, 1000, 0.6, None, "decode"),
        (300, 299, 0.2, None, "model"),  # it waits at the wrong moment only: it is as fast as without a Loader
        (3000, 900, 0.6, 950, "copy"),
    ],
)
def test_who_limits_training(network, together, wait_share, copy, name):
    waits = judgement.who_waits(together=together, model=network, wait_share=wait_share)
    training = Training(
        device="cuda:0",
        model="resnet50",
        resolution=160,
        batch_size=256,
        recipe_batch_size=256,
        model_images_per_second=network,
        loader_images_per_second=1000,
        together_images_per_second=together,
        wait_share=wait_share,
        waits="training" if waits else "loader",
        copy_images_per_second=copy,
    )
    loader = Limit(name="decode", share=0.9, reason="", advice="")
    assert judgement.limit_of_training(training, loader).name == name


def test_notes_say_what_spoils_the_figures():
    rounds = [one_round(counts={"decoder.fastload": 800, "decoder.turbo": 200}, skipped=3, decode=0.9)]
    small = dataclasses.replace(DATA, samples=100)
    found = " ".join(
        judgement.notes(rounds=rounds, data=small, batch_size=128, fastload=judgement.speed(rounds), processors=1)
    )
    for part in ("0.05 s", "3 images could not be read", "2 threads on 1 processors", "20% of the images", "fewer"):
        assert part in found
