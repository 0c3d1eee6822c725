"""The pictures of the pages: each an SVG with a caption, small enough to be read on a phone."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.ticker import MaxNLocator

_STYLE = {
    "svg.fonttype": "none",  # letters, not outlines: smaller, and the page's text search finds them
    "svg.hashsalt": "self-emo",  # the same page from the same files
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.fontsize": 7,
    # Margins by hand: laying each picture out would draw it twice.
    "figure.subplot.left": 0.16,
    "figure.subplot.right": 0.97,
    "figure.subplot.top": 0.9,
    "figure.subplot.bottom": 0.17,
}
_SIZE = (3.6, 2.5)

#: Metric -> title, and what the caption says of it.
RL_PANELS = {
    "self_emo/reward": ("Mean reward R (Eq. 8)", "Over a step's rollouts; in [0, 1.1]."),
    "self_emo/accuracy": ("Accuracy of rollouts", "Heaviest label equal to the prompt's, gold or self-made."),
    "self_emo/valid": ("Share that keeps the rule", "Of a step's rollouts."),
    "self_emo/r2": ("Secondary reward r2 (Eq. 12)", "How many of the group's core emotions a rollout names."),
    "self_emo/lambda": ("Consensus weight λ", "t / T, what r2 weighs in Eq. 13."),
    "actor/entropy": ("Policy entropy (nats)", "Mean over response tokens (Fig. 6)."),
    "actor/grad_norm": ("Gradient norm", "Before clipping."),
    "self_emo/reward_std_zero_share": ("Groups without spread in R", "They teach nothing but r2."),
}


class Figure(NamedTuple):
    """An SVG and what it shows, in a sentence."""

    svg: str
    caption: str


#: Name of a line -> its x and y values.
Lines = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def series(entries: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one metric, where it was logged."""
    points = [(e["step"], e["data"][name]) for e in entries if name in e["data"]]
    return [p[0] for p in points], [p[1] for p in points]


def line_chart(lines: Lines, title: str, x: str, caption: str) -> Figure | None:
    """One panel with a line per entry; None if there is nothing to draw."""
    drawn = {name: points for name, points in lines.items() if len(points[0])}
    if not drawn:
        return None
    with plt.rc_context(_STYLE):
        figure, axis = plt.subplots(figsize=_SIZE)
        for name, (xs, ys) in drawn.items():
            axis.plot(xs, ys, label=name, linewidth=1.4, marker="." if len(xs) < 3 else None)
        axis.set(title=title, xlabel=x)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(drawn) > 1:
            axis.legend()
        return Figure(_svg(figure), caption)


def course_chart(
    points: Sequence[tuple[str, float, tuple[float, float] | None]], baselines: Mapping[str, float]
) -> Figure:
    """Held-out accuracy over a run's checkpoints, with their intervals, and the baselines as lines.

    Args:
        points: title, accuracy and interval of every checkpoint, in the order of training.
        baselines: title -> accuracy.
    """
    with plt.rc_context(_STYLE | {"font.size": 10, "legend.fontsize": 9, "figure.subplot.left": 0.08}):
        figure, axis = plt.subplots(figsize=(8.2, 3.4))
        xs, ys = range(len(points)), [accuracy for _, accuracy, _ in points]
        axis.plot(xs, ys, color="#2b6cb0", linewidth=2.2, marker="o", markersize=6, zorder=3)
        for x, (_, y, interval) in zip(xs, points, strict=True):
            if interval is not None:
                axis.plot([x, x], interval, color="#2b6cb0", linewidth=1.6, alpha=0.55, zorder=2)
            axis.annotate(
                f"{y:.2f}", (x, y), textcoords="offset points", xytext=(8, 6), color="#1a3d66", zorder=4
            )
        for (title, accuracy), style in zip(baselines.items(), ("--", ":", "-."), strict=False):
            axis.axhline(accuracy, linestyle=style, color="#777", linewidth=1.2, label=title)
        axis.set_xticks(list(xs), [title for title, _, _ in points])
        axis.set_ylabel("accuracy")
        axis.set_xlim(-0.3, len(points) - 0.6)
        if baselines:
            axis.legend(loc="lower right", framealpha=0.8)
        caption = "Accuracy on the test splits, mean over corpora; bars: 95 % intervals over dialogues."
        return Figure(_svg(figure), caption)


def seeds_chart(
    stages: Sequence[str], settings: Mapping[str, Sequence[Sequence[float]]], baselines: Mapping[str, float]
) -> Figure:
    """Held-out accuracy over the checkpoints of several runs: every seed thin, their mean thick.

    Args:
        stages: titles of the checkpoints, in the order of training.
        settings: title -> for each seed the accuracy at every checkpoint.
        baselines: title -> accuracy.
    """
    xs = range(len(stages))
    with plt.rc_context(_STYLE | {"font.size": 10, "legend.fontsize": 9, "figure.subplot.left": 0.08}):
        figure, axis = plt.subplots(figsize=(8.2, 3.4))
        for i, (title, seeds) in enumerate(settings.items()):
            colour = f"C{i % 10}"
            for seed in seeds:
                axis.plot(xs, seed, color=colour, linewidth=0.9, alpha=0.45)
            means = [sum(values) / len(values) for values in zip(*seeds, strict=True)]
            axis.plot(xs, means, color=colour, linewidth=2.4, marker="o", label=title, zorder=3)
            if len(settings) == 1:
                for x, y in zip(xs, means, strict=True):
                    axis.annotate(f"{y:.2f}", (x, y), textcoords="offset points", xytext=(6, -14), zorder=4)
        for (title, accuracy), style in zip(baselines.items(), ("--", ":", "-."), strict=False):
            axis.axhline(accuracy, linestyle=style, color="#777", linewidth=1.2, label=title)
        axis.set_xticks(list(xs), stages)
        axis.set_ylabel("accuracy")
        axis.set_xlim(-0.3, len(stages) - 0.6)
        axis.legend(loc="lower right", framealpha=0.8)
        caption = "Accuracy on the test splits, mean over corpora; thin: each seed, thick: their mean."
        return Figure(_svg(figure), caption)


def rl_charts(stages: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Figure]:
    """A panel per metric of `RL_PANELS`, and per score on the dev split, with a line per RL stage.

    Args:
        stages: name of a line -> its metrics, as `recipe.run.files.read_metrics` has them.
    """
    found = []
    for metric, (title, caption) in RL_PANELS.items():
        lines = {name: series(entries, metric) for name, entries in stages.items()}
        found.append(line_chart(lines, title, "RL step", caption))
    names = {name for entries in stages.values() for e in entries for name in e["data"]}
    for metric in sorted(name for name in names if name.startswith("val-core/")):
        lines = {name: series(entries, metric) for name, entries in stages.items()}
        title = "dev: " + metric.removeprefix("val-core/")
        found.append(line_chart(lines, title, "RL step", "veRL's validation on the dev split during RL."))
    return [figure for figure in found if figure]


def reliability_chart(calibrations: Mapping[str, Mapping[str, Any]], title: str) -> Figure | None:
    """Accuracy by confidence, a line per checkpoint; the diagonal is a perfectly calibrated one.

    Args:
        calibrations: checkpoint -> `recipe.evaluation.measures.calibration` of one corpus.
    """
    drawn = {name: c for name, c in calibrations.items() if c["ece"] is not None}
    if not drawn:
        return None
    with plt.rc_context(_STYLE):
        figure, axis = plt.subplots(figsize=_SIZE)
        axis.plot([0, 1], [0, 1], color="#999", linestyle=":", linewidth=1)
        for name, found in drawn.items():
            bins = [b for b in found["bins"] if b["n"]]
            axis.plot(
                [b["confidence"] for b in bins],
                [b["accuracy"] for b in bins],
                marker="o",
                markersize=3,
                linewidth=1.2,
                label=name,
            )
        axis.set(title=title, xlabel="weight of the heaviest label", ylabel="accuracy")
        axis.set(xlim=(0.3, 1.02), ylim=(-0.02, 1.02))  # of three weights the heaviest is at least 1/3
        axis.legend(loc="upper left", framealpha=0.6)
        caption = "Accuracy of the valid answers in ten bins of their heaviest label's normalised weight."
        return Figure(_svg(figure), caption)


def confusion_chart(table: Mapping[str, Any], title: str) -> Figure:
    """A confusion matrix of `evaluation.measures.confusion`, coloured by the share of the gold label."""
    gold, pred, counts = table["gold"], table["pred"], table["counts"]
    with plt.rc_context(
        _STYLE | {"axes.grid": False, "figure.subplot.left": 0.2, "figure.subplot.bottom": 0.22}
    ):
        figure, axis = plt.subplots(figsize=(3.6, 3.4))
        axis.imshow([[c / max(sum(row), 1) for c in row] for row in counts], cmap="Blues", vmin=0, vmax=1)
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                shade = "white" if count > 0.6 * sum(row) else "black"
                axis.text(j, i, count or "", ha="center", va="center", fontsize=7, color=shade)
        axis.set_xticks(range(len(pred)), pred, rotation=60, ha="right", fontsize=7)
        axis.set_yticks(range(len(gold)), gold, fontsize=7)
        axis.set_title(title)
        return Figure(_svg(figure), "Rows: gold; columns: predicted. Colour: share of the row's gold label.")


def drift_chart(drift: Mapping[str, Any], title: str) -> Figure:
    """Label shares of self-labelled rows and real next turns (`evaluation.circularity.label_drift`)."""
    labels = list(drift["gold"])
    with plt.rc_context(_STYLE | {"figure.subplot.bottom": 0.25}):
        figure, axis = plt.subplots(figsize=_SIZE)
        for offset, key, name in ((-0.2, "gold", "real next turns"), (0.2, "own", "self-labelled rows")):
            places = [i + offset for i in range(len(labels))]
            axis.bar(places, [drift[key][e] for e in labels], width=0.4, label=name)
        axis.set_xticks(range(len(labels)), labels, rotation=40, ha="right", fontsize=7)
        axis.set_title(title)
        axis.legend()
        return Figure(
            _svg(figure),
            f"Label shares of {drift['compared']} of {drift['self_rows']} self-labelled rows in B and of the "
            f"turns that they replace; Jensen-Shannon divergence {drift['divergence']:.3f} bits, the "
            f"same heaviest label in {drift['agreement']:.0%}.",
        )


def emotion_colours(labels: Sequence[str]) -> dict[str, str]:
    """The colour of every label, the same in all pictures of a page; above 20 labels they come again."""
    colours = plt.get_cmap("tab20" if len(labels) > 10 else "tab10").colors
    return {label: to_hex(colours[i % len(colours)]) for i, label in enumerate(labels)}


def emotion_course(
    weights: Sequence[Mapping[str, float]], speakers: Sequence[str], labels: Sequence[str], caption: str
) -> Figure:
    """The emotions of one utterance after the other, as bars in `emotion_colours`, the heaviest lowest.

    Args:
        weights: label -> weight, summing to 1, of every utterance; one without emotions has a cross.
        speakers: of every utterance.
        labels: in their order.
        caption: of the picture.
    """
    colours = emotion_colours(labels)
    width = 0.8 + 0.24 * max(len(weights), 10)
    margins = {"figure.subplot.left": 0.4 / width, "figure.subplot.right": 1 - 0.1 / width}
    style = _STYLE | margins | {"figure.subplot.bottom": 0.36, "axes.grid": False}
    with plt.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a browser has letters of more scripts
        figure, axis = plt.subplots(figsize=(width, 2.2))
        for x, emotions in enumerate(weights):
            bottom = 0.0
            for label in sorted(emotions, key=emotions.__getitem__, reverse=True):
                axis.bar(x, emotions[label], bottom=bottom, width=0.86, color=colours[label])
                bottom += emotions[label]
            if not emotions:
                axis.plot(x, 0.5, marker="x", markersize=5, color="#a33")
        shown = [name if len(name) <= 12 else f"{name[:11]}…" for name in speakers]
        # A dollar sign would begin a formula.
        axis.set_xticks(
            range(len(shown)), [name.replace("$", r"\$") for name in shown], rotation=60, ha="right"
        )
        axis.set(xlim=(-0.6, max(len(weights), 10) - 0.4), ylim=(0, 1), yticks=[0, 0.5, 1])
        return Figure(_svg(figure), caption)


def scatter(
    groups: Mapping[str, Sequence[tuple[float, float, float]]],
    grey: Mapping[str, str],
    title: str,
    caption: str,
) -> Figure:
    """Dots in a plane, with a colour a group.

    Args:
        groups: name -> (x, y, weight) of its dots; a dot's area grows with the root of its weight.
        grey: the colours of groups that stay in the background.
    """
    colours = plt.get_cmap("tab20").colors
    with plt.rc_context(_STYLE | {"figure.subplot.left": 0.06, "figure.subplot.bottom": 0.06}):
        figure, axis = plt.subplots(figsize=(9, 4.8), gridspec_kw={"right": 0.62})
        for i, (name, dots) in enumerate(groups.items()):
            colour = grey.get(name) or colours[i % len(colours)]
            axis.plot([], [], "o", markersize=5, color=colour, label=name)  # for the legend alone
            # One call a weight: then a dot is a reference to one shape, a tenth of the characters.
            for weight in sorted({dot[2] for dot in dots}, reverse=True):
                xs, ys = zip(*(dot[:2] for dot in dots if dot[2] == weight), strict=True)
                order, width = 1 if name in grey else 2, 2.5 * weight**0.25
                axis.plot(xs, ys, "o", markersize=width, color=colour, markeredgewidth=0, zorder=order)
        axis.set_title(title)
        axis.set(xticks=[], yticks=[])
        axis.margins(0.08)
        axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        return Figure(_svg(figure), caption)


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]
