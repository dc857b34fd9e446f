"""Whether each suite shows every behaviour: `behaviours.txt` has their numbers, and a test's name begins with one.

    python3 clients/tests/behaviours.py [LANGUAGE...]

Exit status 1 names what is missing. It runs nothing.
"""

import re
import sys
from pathlib import Path

CLIENTS = Path(__file__).resolve().parent.parent
# Where the tests of each language are, and how the name of one begins there.
SUITES = {
    "python": ("tests/*.py", r"def test_(\d\d)_"),
    "java": ("src/test/**/*.java", r'suite\.[a-z]+\(\s*"(\d\d)'),
    "go": ("*_test.go", r"func Test(\d\d)"),
    "nodejs": ("tests/*.js", r"test\(\s*['\"`](\d\d) "),
}


def missing(wanted, language):
    pattern, name = SUITES[language]
    sources = [path.read_text() for path in (CLIENTS / language).glob(pattern)]
    shown = {int(number) for source in sources for number in re.findall(name, source)}
    return sorted(wanted - shown), sorted(shown - wanted)


def main():
    lines = (CLIENTS / "tests" / "behaviours.txt").read_text().splitlines()
    wanted = {int(line.split(" ", 1)[0]) for line in lines if not line.startswith("#")}
    is_whole = True
    for language in sys.argv[1:] or SUITES:
        lacks, unknown = missing(wanted, language)
        if lacks or unknown:
            is_whole = False
            print(f"{language}: no test of {lacks}, and {unknown} are no behaviours", file=sys.stderr)
    sys.exit(0 if is_whole else 1)


if __name__ == "__main__":
    main()
