"""Fit each detector's calibration and the fusion from evaluations of media that no training saw; measure them honestly.

    unmask evaluate --data DIR --split dev --json dev.json
    python -m train.calibrate aggregate dev.json --out pooling.json
    python -m train.calibrate fit dev.json --more reals.json --aggregation pooling.json --data-name "development set"
    python -m train.calibrate crossfit dev.json --more reals.json --aggregation pooling.json --json crossfit.json

`fit` changes the calibrations in the manifest and fusion.json, no network, and then `unmask evaluate` refuses the media
that it saw; with `--out` elsewhere it is a trial: the fusion is written there, and nothing that is in use changes.
`crossfit` measures the same procedure on the same media without letting any file's source into its own fit.
docs/detectors/fusion.md tells what the reports hold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detectors.aggregate import Aggregation
from detectors.fusion import SHIPPED, save_fusion
from detectors.store import Calibration, WeightCard, WeightsError, available, set_calibration
from train.crossfit import crossfit
from train.examples import BadRows, Examples, Ints, examples, read_rows, steps_of
from train.fitting import Fitted, Options, fit
from train.pooling import chosen, compare
from train.stacking import calibrators

COMMANDS = ("fit", "crossfit", "aggregate")


def calibrate(
    rows: Sequence[dict[str, Any]], names: Sequence[str], fitted_on: str, *, temperature: bool = False
) -> dict[str, Calibration]:
    """A calibration a detector from the rows' raw logits; a detector seen on one class only has none."""
    if {row["label"] for row in rows} != {0, 1}:
        return {}
    made = examples(rows, names)
    platts = dict(zip(made.names, calibrators(made, made.mass(), temperature), strict=True))
    return {name: card for name in platts if (card := _card(made, name, platts[name], fitted_on, temperature, {}))}


def digest(shas: Iterable[str]) -> str:
    """One sha256 for a set of files: over their sorted sha256, a line each."""
    return hashlib.sha256("".join(f"{sha}\n" for sha in sorted(set(shas))).encode()).hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 done, 2 usage, media that cannot be fitted on, or files that cannot be written."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    given = _parser().parse_args(words if words[:1] and words[0] in (*COMMANDS, "-h", "--help") else ["fit", *words])
    try:
        {"fit": _fit, "crossfit": _crossfit, "aggregate": _aggregate}[given.command](given)
    except (BadRows, WeightsError, OSError) as error:
        print(f"python -m train.calibrate: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    helps = ("fit calibrations and fusion", "measure them by cross-fitting", "compare poolings of a track's frames")
    for command, told in zip(COMMANDS, helps, strict=True):
        made = commands.add_parser(command, help=told)
        made.add_argument("reports", type=Path, nargs="+", metavar="EVALUATION.json", help="of unmask evaluate --json")
        made.add_argument("--folds", type=int, default=5)
        made.add_argument("--without", default="", metavar="SET,SET", help="data sets to leave out")
        made.add_argument("--seed", type=int, default=0)
        if command == "aggregate":
            made.add_argument("--out", type=Path, required=True, help="the comparison with the choices, JSON")
            continue
        made.add_argument(
            "--more",
            type=Path,
            nargs="+",
            default=[],
            metavar="EVALUATION.json",
            help="pseudo-fakes and reserved real faces: they calibrate and bound the false alarms, the stacker and the "
            "figures do not see them",
        )
        made.add_argument("--aggregation", type=Path, metavar="F.json", help="choices that `aggregate` wrote")
        made.add_argument("--risk", type=float, default=0.05, help="of a wrong verdict among those given")
        made.add_argument("--false-alarms", type=float, default=0.02, help="among real files")
        made.add_argument("--never-real", action="store_true", help="no verdict real: some fakes would pass as such")
        made.add_argument("--temperature", action="store_true", help="calibrate by a slope alone")
        made.add_argument("--resamples", type=int, default=100, help="of the interval")
        if command == "fit":
            made.add_argument("--data-name", required=True, help="what the media are, for the cards")
            made.add_argument("--blind-to", default="", help="a sentence on what is not seen, told with 'real'")
            made.add_argument(
                "--out", type=Path, default=SHIPPED, help="the fusion; elsewhere than in use: a trial, no card changes"
            )
        else:
            made.add_argument("--json", type=Path, metavar="FILE", help="the whole report")
            made.add_argument("--apart", default="", metavar="SET,SET", help="data sets that no fit sees: told apart")
    return parser


def _fit(given: argparse.Namespace) -> None:
    cards = available()
    made, pooled = _examples(given, cards)
    shas = {name: card.sha256 for name, card in cards.items()}
    fitted = fit(made, _options(given), fitted_on=given.data_name, for_weights=shas, blind_to=given.blind_to)
    _write(fitted, made, given, cards, pooled)


def _write(
    fitted: Fitted,
    made: Examples,
    given: argparse.Namespace,
    cards: Mapping[str, WeightCard],
    pooled: Mapping[str, Aggregation],
) -> None:
    # Evaluations refuse what the fusion in use says it saw: calibrations on anything else must not be in use.
    used = given.out.resolve() == SHIPPED.resolve()
    for name, platt in fitted.platts.items():
        card = _card(made, name, platt, given.data_name, given.temperature, pooled)
        if card is not None:
            if used:
                set_calibration(name, cards[name].profile, card)
            wrong_way = "; it points the wrong way and gets no weight" if card.a == 0 else ""
            print(f"{name}: score = sigmoid({card.a:.3f} * logit + {card.b:.3f}), n = {card.n}{wrong_way}")
    save_fusion(fitted.model, given.out)
    if not used:
        print(f"a trial: {given.out} has the fusion, the calibrations in use stay as they are")
    model, bounds = fitted.model, fitted.model.selection
    print(f"fusion: {model.weights}, bias {model.bias:.3f}, n = {model.n} files of {model.sources} sources")
    if bounds is not None:
        below = f"real up to {model.real_below:.2f}" if model.real_below > 0 else "never real"
        print(f"fake from {model.threshold:.2f}, {below}; decides {bounds.coverage:.0%}, wrong {bounds.risk_found}")
        if bounds.fake_risk > bounds.risk or model.real_below == 0:
            print(f"these files cannot vouch for a risk of {bounds.risk:g} on both sides: see `selection` in the card")


def _crossfit(given: argparse.Namespace) -> None:
    apart = [row for row in read_rows(given.reports) if row.get("dataset") in given.apart.split(",") and given.apart]
    given.without = ",".join([given.without, given.apart])
    made, pooled = _examples(given, available())
    others = examples([], made.names, apart, pooled) if apart else None
    reports = [*given.reports, *given.more]
    perturbed = {step: examples([], made.names, read_rows(reports, step), pooled) for step in steps_of(reports)}
    report = crossfit(made, _options(given), given.seed, others, perturbed)
    print(f"{report['files']} files of {report['sources']} sources; AUC cross-fitted, 95 % intervals")
    print(f"fused                {_words(report['auc'])}, ECE {report['ece']:.3f}")
    for name, one in report["against"].items():
        print(f"{name:20} {_words(one['auc'])}; fused on the same files {_words(one['difference'], sign='+')}")
    best = report["best_single"]
    print(f"fused less {best['name']}, the best single, on all files {_words(best['difference'], sign='+')}")
    print(f"decided {report['decided']['coverage']:.0%}, wrong among them {report['decided']['risk']}")
    print(f"real files called fake: {_words(report['false_alarms']['all real files'])}")
    for name, one in report["apart"].items():
        print(f"apart, {name:14} {_words(one)}, {one['verdicts']}")
    for step, one in report["robustness"].items():
        for kind, found in one.items():
            if found["auc"]["n"] or found["false_alarms"]["n"]:
                alarms = f"real ones called fake {_words(found['false_alarms'])}"
                print(f"{step}, {kind}s: AUC {_words(found['auc'])}, {alarms}")
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _aggregate(given: argparse.Namespace) -> None:
    cards = {name: card.calibration for name, card in available().items()}
    now = {name: fit.aggregation for name, fit in cards.items() if fit and fit.aggregation}
    report = compare(_rows(given), sorted(cards), given.folds, given.seed, now)
    for name, one in report.items():
        if "poolings" not in one:
            print(f"{name}: not compared: {one['why']}")
            continue
        print(f"{name}, {one['files']} files: {Aggregation(**one['chosen']) if one['chosen'] else 'its own pooling'}")
        for label, figures in one["poolings"].items():
            gain = _words(figures["gain"], sign="+")
            print(f"  {label:20} log loss {figures['log_loss']:.3f}, gain {gain}, AUC {figures['auc']:.3f}")
    given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _rows(given: argparse.Namespace) -> list[dict[str, Any]]:
    left_out = set(given.without.split(","))
    return [row for row in read_rows(given.reports) if row.get("dataset") not in left_out or not row.get("dataset")]


def _examples(given: argparse.Namespace, cards: Mapping[str, WeightCard]) -> tuple[Examples, dict[str, Aggregation]]:
    rows = _rows(given)
    pooled = chosen(given.aggregation) if given.aggregation else {}
    seen = {row["sha256"] for row in rows if row.get("sha256")}
    more = [row for row in read_rows(given.more) if row.get("sha256") not in seen]
    made = examples(rows, sorted(cards), more, pooled)
    known = [name for name in made.names if len(set(made.label[_heard(made, name)].tolist())) == 2]
    for name in set(made.names) - set(known):
        print(f"{name}: no scores of both classes; it is not calibrated and takes no part in the verdict")
    return examples(rows, known, more, pooled), pooled


def _heard(made: Examples, name: str) -> Ints:
    """The files with a score of this detector on a track that is fitted on."""
    return np.unique(made.file[np.isfinite(made.logits[:, made.names.index(name)]) & made.fits])


def _options(given: argparse.Namespace) -> Options:
    return Options(
        folds=given.folds,
        risk=given.risk,
        false_alarms=given.false_alarms,
        never_real=given.never_real,
        resamples=given.resamples,
        temperature=given.temperature,
        seed=given.seed,
    )


def _card(
    made: Examples,
    name: str,
    platt: tuple[float, float],
    fitted_on: str,
    temperature: bool,
    pooled: Mapping[str, Aggregation],
) -> Calibration | None:
    """What the manifest keeps of a calibration: how it was fitted and what it saw. None for one of a single class."""
    heard = _heard(made, name)
    reals = int((made.label[heard] == 0).sum())
    if not 0 < reals < len(heard):
        return None
    shas = [str(made.rows[place]["sha256"]) for place in heard if made.rows[place].get("sha256")]
    return Calibration(
        a=round(platt[0], 6),
        b=round(platt[1], 6),
        fitted_on=fitted_on,
        n=len(heard),
        reals=reals,
        fakes=len(heard) - reals,
        method="temperature" if temperature else "platt",
        saw=digest(shas) if shas else None,
        aggregation=pooled.get(name),
        shares=_shares(made, name, platt),
    )


def _shares(made: Examples, name: str, platt: tuple[float, float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of the reals and of the fakes: the share of the calibrated scores in each tenth, weighed as in the fit."""
    logits = made.logits[:, made.names.index(name)]
    used = np.isfinite(logits) & made.fits
    scores, mass, label = (
        1 / (1 + np.exp(-(platt[0] * logits[used] + platt[1]))),
        made.mass()[used],
        made.label[made.file[used]],
    )
    found = [np.histogram(scores[label == side], 10, (0, 1), weights=mass[label == side])[0] for side in (0, 1)]
    real, fake = (tuple(np.round(counts / counts.sum(), 4).tolist()) for counts in found)
    return real, fake


def _words(figure: Mapping[str, Any], sign: str = "") -> str:
    if figure["value"] is None:
        return "not defined"
    span = "" if figure["low"] is None else f" [{figure['low']:{sign}.3f}, {figure['high']:{sign}.3f}]"
    return f"{figure['value']:{sign}.3f}{span} (n = {figure['n']})"


if __name__ == "__main__":
    raise SystemExit(main())
