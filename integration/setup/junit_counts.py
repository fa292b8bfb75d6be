"""Prints "PASSED FAILED SKIPPED" of a JUnit XML report: a test with a failure or an error, also of its fixtures, failed."""

import sys
import xml.etree.ElementTree


def outcome(case):
    kinds = {child.tag for child in case}
    return "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"


def counts(file):
    # The report has two entries for a test that failed and whose clean-up failed too.
    outcomes = {}
    for case in xml.etree.ElementTree.parse(file).iter("testcase"):
        name = (case.get("classname"), case.get("name"))
        if outcomes.get(name) != "failed":
            outcomes[name] = outcome(case)
    return [list(outcomes.values()).count(kind) for kind in ("passed", "failed", "skipped")]


if __name__ == "__main__":
    print(*counts(sys.argv[1]))
