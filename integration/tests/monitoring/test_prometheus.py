"""The metrics, alert rules and dashboard, as Prometheus and Grafana's types read them."""

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from support import monitoring_tools
from support.objects import HOSTS, host
from support.server import PORT
from support.waiting import eventually

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parents[2] / "config"
RULES, DASHBOARD = CONFIG / "prometheus-rules.yaml", CONFIG / "grafana-dashboard.json"
PROMETHEUS_PORT = 9090
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def server(start_server, place):
    """A server with a webhook, so that it has all metrics."""
    (place / "secret").write_text(SECRET)
    return start_server(f'[[webhooks]]\nname = "hooks"\nurl = "http://127.0.0.1:9/"\nsecret_file = "{place}/secret"\n')


@pytest.fixture(scope="module")
def prometheus(server, place):
    """A real Prometheus that scrapes the server and evaluates the rules."""
    folder = place / "prometheus"
    folder.mkdir()
    (folder / "prometheus.yaml").write_text(json.dumps({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "bootlatch", "static_configs": [{"targets": [f"127.0.0.1:{PORT}"]}]}]}))
    log = open(folder / "log", "wb")
    process = subprocess.Popen(
        ["prometheus", f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}"], stdout=log, stderr=log)
    try:
        scraped = eventually(lambda: values("count_over_time(up[1h]) >= 4"), 60)
        assert scraped, (folder / "log").read_text()[-3000:]
        yield
    finally:
        process.terminate()
        process.wait()


def ask(path, **fields):
    url = f"http://127.0.0.1:{PROMETHEUS_PORT}{path}?{urllib.parse.urlencode(fields)}"
    try:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)
    except (OSError, ValueError) as error:  # before it is ready, it answers nothing, or no JSON
        return {"status": "error", "error": str(error)}


def values(expression):
    """Returns the samples of an expression; None if Prometheus does not answer or does not take it."""
    answer = ask("/api/v1/query", query=expression)
    return answer["data"]["result"] if answer["status"] == "success" else None


def queries():
    """Returns the queries of the dashboard, by the title of their panel, with its variables filled in."""
    dashboard = json.loads(DASHBOARD.read_text())
    found = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]
    found += [(note["name"], note["expr"]) for note in dashboard["annotations"]["list"]]
    filled = {"$job": ".*", "$instance": ".*", "$__rate_interval": "1m"}
    for name, value in filled.items():
        found = [(title, expr.replace(name, value)) for title, expr in found]
    return found


def rules():
    """Returns the expressions of the alert rules as Prometheus has them, by name."""
    groups = ask("/api/v1/rules")["data"]["groups"]
    return [(rule["name"], rule["query"]) for group in groups for rule in group["rules"]]


def promtool(*words, text=None):
    done = subprocess.run(["promtool", *map(str, words)], input=text, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_the_metrics(server):
    assert server.ask("POST", HOSTS, host("one", 1)).code == 201
    metrics = server.ask("GET", "/metrics", token=None).text
    assert promtool("check", "metrics", text=metrics) == (0, "")
    assert 'bootlatch_phase_transitions_total{phase="LocalBoot"} 1' in metrics.splitlines()


def test_the_reference_lists_the_metrics_that_exist(server):
    found = set(re.findall(r"^# TYPE (\w+)", server.ask("GET", "/metrics", token=None).text, re.M))
    listed = set(re.findall(r"`((?:bootlatch|process)_\w+)`", (CONFIG.parent / "docs/reference/metrics.md").read_text()))
    assert found == listed


def test_promtool_accepts_the_rules():
    code, said = promtool("check", "rules", RULES)
    assert code == 0 and re.search(r"SUCCESS: \d+ rules found", said), said


def test_each_alert_fires_at_its_fault_and_none_at_a_healthy_server(place):
    tests = HERE / "prometheus-rules-test.yaml"
    (place / "rules-test.yaml").write_text(tests.read_text().replace("RULES", str(RULES)))
    code, said = promtool("test", "rules", place / "rules-test.yaml")
    assert code == 0 and "SUCCESS" in said, said
    alerts = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    assert alerts == set(re.findall(r'alertname="(\w+)"', tests.read_text())), "each alert has a test"


def test_the_documentation_lists_the_alerts():
    listed = set(re.findall(r"`(Bootlatch\w+)`", (CONFIG.parent / "docs/operations/monitoring.md").read_text()))
    assert listed == set(re.findall(r"alert: (\w+)", RULES.read_text()))


def test_prometheus_answers_each_query_of_the_dashboard_and_the_rules(server, prometheus):
    exist = set(re.findall(r"^# TYPE (\w+)", server.ask("GET", "/metrics", token=None).text, re.M))
    all_queries = queries() + rules()
    assert len(all_queries) > 50, all_queries
    empty = []
    for title, expression in all_queries:
        named = set(re.findall(r"\b(?:bootlatch|process)_\w+", expression))
        missing = {name for name in named if name not in exist and re.sub("_(bucket|sum|count)$", "", name) not in exist}
        assert not missing, f"{title}: these metrics exist: {missing}"
        answer = ask("/api/v1/query", query=expression)
        assert answer["status"] == "success", f"{title}: {expression}: {answer}"
        if not answer["data"]["result"] and not re.search(r"[<>=]=? *[\d.]", expression):
            empty.append((title, expression))
    assert not empty, "each query that does not compare has samples"


def test_a_label_that_a_query_selects_exists(server, prometheus):
    """A selected value that the server never writes would hide an alert for ever."""
    for title, expression in queries() + rules():
        for metric, selectors in re.findall(r"\b((?:bootlatch|process)_\w+)\{([^}]*)\}", expression):
            for label, operator, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', selectors):
                selected = values(f'{metric}{{{label}{operator}"{value}"}}')
                assert selected, f'{title}: {metric} has {label}{operator}"{value}"'


def test_grafanas_types_know_all_of_the_dashboard():
    dashboard = json.loads(DASHBOARD.read_text())
    assert monitoring_tools.differences(dashboard, monitoring_tools.through_grafana(dashboard)) == []
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len(panels) > 20 and len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    places = [(place["x"], place["y"], place["w"], place["h"]) for place in (panel["gridPos"] for panel in dashboard["panels"])]
    cells = [(x + right, y + down) for x, y, w, h in places for right in range(w) for down in range(h)]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24, "no panel lies on another"
