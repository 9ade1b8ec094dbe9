"""One parser of the mutation job in a process of its own: ``python -m tests.fuzz "source: COCO" --inputs 100``."""

import argparse
import faulthandler
import sys
import tempfile
from pathlib import Path

from tests.fuzz.harness import dump, run
from tests.fuzz.parsers import PARSERS


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("parser", choices=PARSERS)
    options.add_argument("--inputs", type=int, default=1000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--first", type=int, default=0, help="number of the first input: to see one again")
    options.add_argument("--last", type=Path, help="file that holds the number of the input, as int64")
    options.add_argument("--folder", type=Path, help="where the files are written; better a file system in memory")
    options.add_argument("--report", type=Path, help="file that gets the result as a line of JSON")
    chosen = options.parse_args()
    faulthandler.enable()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        result = run(
            PARSERS[chosen.parser],
            Path(folder),
            inputs=chosen.inputs,
            seed=chosen.seed,
            first=chosen.first,
            last=chosen.last,
        )
    if chosen.report is None:
        sys.stdout.write(dump(result) + "\n")
    else:
        chosen.report.write_text(dump(result))


main()
