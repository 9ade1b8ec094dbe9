"""Parsers of the mutation job one after the other: ``python -m tests.fuzz "source: COCO" --inputs 100``."""

import argparse
import faulthandler
import sys
import tempfile
from pathlib import Path

from tests.fuzz.harness import run, table_row
from tests.fuzz.parsers import PARSERS


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("parsers", nargs="+", choices=PARSERS, metavar="PARSER", help="; ".join(PARSERS))
    options.add_argument("--inputs", type=int, default=1000, help="of each parser")
    options.add_argument(
        "--job", type=int, help="in place of --inputs: of a job of all parsers, of which these are some"
    )
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--first", type=int, default=0, help="number of the first input: to see one again")
    options.add_argument("--last", type=Path, help="file that holds the number of the input, as int64")
    options.add_argument("--folder", type=Path, help="where the files are written; better a file system in memory")
    options.add_argument("--report", type=Path, help="file to which a line is added for each parser")
    chosen = options.parse_args()
    faulthandler.enable()
    for name in chosen.parsers:
        parser = PARSERS[name]
        whole = sum(each.share for each in PARSERS.values())
        inputs = chosen.inputs if chosen.job is None else max(1, round(parser.share / whole * chosen.job))
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            result = run(parser, Path(folder), inputs=inputs, seed=chosen.seed, first=chosen.first, last=chosen.last)
        sys.stdout.write(table_row(result))
        if chosen.report is not None:
            with open(chosen.report, "a") as file:
                file.write(table_row(result))


main()
