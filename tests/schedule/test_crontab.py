"""Schedules, and the user's crontab: nothing but the project's block changes."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from retrainer.errors import RetrainerError, UsageError
from retrainer.schedule.command import ScheduledCommand, choose_delay
from retrainer.schedule.crontab import installed_line, with_block, without_block
from retrainer.schedule.expression import NAMED, parse_schedule
from tests.conftest import NOW, configure, open_project, regular_posts

if TYPE_CHECKING:
    from tests.command_line import Runner

CONFIG = Path("/srv/project/config/config.yaml")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"# mine\n0 5 * * * /usr/bin/backup\n",
        b"MAILTO=me@example.org\r\n0 5 * * * /usr/bin/backup\r\n",
        b"# caf\xe9 \xff\xfe\n0 5 * * * echo '\xe9'\n\n\n  \n",
        b"# END retrainer /another/config.yaml of a comment\n0 5 * * * x\n",
    ],
)
def test_install_and_remove_leave_every_other_byte_unchanged(
    text: bytes, folder: Path, cron_folder: Path, retrainer: Runner
) -> None:
    table = cron_folder / "table"
    table.write_bytes(text)
    first = retrainer("schedule", "install", "weekly")
    assert first.code == 0, first.err
    installed = table.read_bytes()
    assert installed.startswith(text)
    assert installed.count(b"# BEGIN retrainer") == 1
    modified = table.stat().st_mtime_ns
    again = retrainer("schedule", "install", "weekly")
    assert "Already installed" in again.out
    assert table.read_bytes() == installed
    assert table.stat().st_mtime_ns == modified, "it was not even written"
    table.write_bytes(installed + b"0 6 * * * later\n")
    assert retrainer("schedule", "install", "daily").code == 0
    assert table.read_bytes() == installed.replace(b"0 3 * * 0 ", b"0 3 * * * ") + b"0 6 * * * later\n"
    assert retrainer("schedule", "remove", "--json").json["changed"] is True
    assert table.read_bytes() == text + b"0 6 * * * later\n"
    assert retrainer("schedule", "remove", "--json").json["changed"] is False


def test_a_last_line_without_a_line_break_gets_one(folder: Path, cron_folder: Path, retrainer: Runner) -> None:
    (cron_folder / "table").write_bytes(b"0 5 * * * backup")
    assert retrainer("schedule", "install").code == 0
    assert (cron_folder / "table").read_bytes().startswith(b"0 5 * * * backup\n# BEGIN retrainer ")
    assert retrainer("schedule", "remove").code == 0
    assert (cron_folder / "table").read_bytes() == b"0 5 * * * backup\n"


def test_a_user_without_a_crontab_gets_one(folder: Path, cron_folder: Path, retrainer: Runner) -> None:
    assert "Not in your crontab" in retrainer("schedule", "show").out
    done = retrainer("schedule", "install", "15 4 * * mon-fri", "--json")
    assert done.code == 0
    assert done.json["line"].startswith("15 4 * * mon-fri /")
    shown = retrainer("schedule", "show")
    assert done.json["line"] in shown.out
    assert "The timing model is due: no run has completed yet" in shown.out
    assert retrainer("schedule", "show", "--json").json["installed"] is True


def test_a_line_added_by_hand_is_recognised(folder: Path, cron_folder: Path, retrainer: Runner) -> None:
    table = cron_folder / "table"
    assert retrainer("schedule", "install", "weekly").code == 0
    pasted = table.read_bytes().splitlines(keepends=True)[1]
    table.write_bytes(b"# " + pasted + pasted)
    assert retrainer("schedule", "show", "--json").json["line"] == pasted.decode().rstrip("\n")
    assert [schedule["where"] for schedule in retrainer("status", "--json").json["schedules"]] == ["your crontab"]
    warning = "Your crontab has another line for this project: delete it with `crontab -e`"
    for command in ("install", "remove"):
        assert warning in retrainer("schedule", command).err
    assert table.read_bytes() == b"# " + pasted + pasted


def test_each_project_has_its_own_block() -> None:
    other = Path("/srv/other/config.yaml")
    both = with_block(with_block(b"", CONFIG, "1 1 * * * a"), other, "2 2 * * * b")
    assert installed_line(both, CONFIG) == "1 1 * * * a"
    assert installed_line(both, other) == "2 2 * * * b"
    assert installed_line(without_block(both, CONFIG), CONFIG) is None
    assert installed_line(without_block(both, CONFIG), other) == "2 2 * * * b"


@given(st.lists(st.sampled_from([b"0 1 * * * x", b"", b"# caf\xe9", b"A=b\r", b"\xff"])), st.integers(0, 6))
def test_a_moved_block_is_replaced_in_place(lines: list[bytes], place: int) -> None:
    block = with_block(b"", CONFIG, "1 1 * * * old")
    before, after = (b"".join(line + b"\n" for line in part) for part in (lines[:place], lines[place:]))
    replaced = with_block(before + block + after + block, CONFIG, "2 2 * * * new")
    assert replaced == before + with_block(b"", CONFIG, "2 2 * * * new") + after
    assert without_block(replaced, CONFIG) == before + after


@pytest.mark.parametrize("damage", ["BEGIN", "END"])
def test_a_damaged_block_is_refused(damage: str, folder: Path, cron_folder: Path, retrainer: Runner) -> None:
    retrainer("schedule", "install")
    table = cron_folder / "table"
    kept = [line for line in table.read_text().splitlines() if not line.startswith(f"# {damage}")]
    table.write_text("\n".join(kept) + "\n")
    before = table.read_bytes()
    for command in ("install", "remove"):
        done = retrainer("schedule", command)
        assert done.code == 1
        assert "crontab -e" in done.err
    assert table.read_bytes() == before


def test_concurrent_changes_by_another_program_are_kept(folder: Path, cron_folder: Path, retrainer: Runner) -> None:
    (cron_folder / "hook").write_text("test -e once || { echo '0 9 * * * theirs' >> table; touch once; }\n")
    (cron_folder / "table").write_bytes(b"0 5 * * * mine\n")
    assert retrainer("schedule", "install").code == 0
    text = (cron_folder / "table").read_text()
    assert text.startswith("0 5 * * * mine\n0 9 * * * theirs\n# BEGIN retrainer ")


def test_a_crontab_that_keeps_changing_is_refused(folder: Path, cron_folder: Path, retrainer: Runner) -> None:
    (cron_folder / "table").write_bytes(b"0 5 * * * mine\n")
    (cron_folder / "hook").write_text("echo '0 9 * * * theirs' >> table\n")
    done = retrainer("schedule", "install")
    assert done.code == 1
    assert "another program keeps changing the crontab" in done.err
    assert "retrainer" not in (cron_folder / "table").read_text()


def test_an_overwritten_change_is_repeated(folder: Path, cron_folder: Path, retrainer: Runner) -> None:
    program = cron_folder / "crontab"
    overwritten = "(folder / 'table').write_bytes(b'# theirs\\n')\n    once.touch()"
    program.write_text(
        program.read_text()
        + f"    once = folder / 'once'\nif sys.argv[1] == '-' and not once.exists():\n    {overwritten}\n"
    )
    assert retrainer("schedule", "install").code == 0
    assert (cron_folder / "table").read_text().startswith("# theirs\n# BEGIN retrainer ")


def test_concurrent_installs_lose_no_block(folder: Path, cron_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from retrainer.schedule.crontab import Crontab, with_block;"
        "Crontab().change(lambda text: with_block(text, Path(sys.argv[1]), '1 1 * * * job'))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, f"/srv/{number}"]) for number in range(6)]
    assert [process.wait(timeout=600) for process in processes] == [0] * 6
    text = (cron_folder / "table").read_bytes()
    assert all(installed_line(text, Path(f"/srv/{number}")) for number in range(6))


def test_a_crontab_that_cannot_be_read_or_written_is_one_line(
    folder: Path, cron_folder: Path, retrainer: Runner
) -> None:
    program = cron_folder / "crontab"
    program.write_text("#!/bin/sh\necho 'You (me) are not allowed to use this program (crontab)' >&2; exit 1\n")
    done = retrainer("schedule", "install")
    assert done.code == 1
    assert "cannot read the crontab: You (me) are not allowed" in done.err
    program.write_text("#!/bin/sh\n[ $1 = -l ] && exit 0\necho 'no space left' >&2; exit 1\n")
    done = retrainer("schedule", "install")
    assert done.code == 1
    assert "cannot write the crontab: no space left" in done.err


def test_a_missing_crontab_program_is_one_line(folder: Path, tmp_path: Path, retrainer: Runner) -> None:
    done = retrainer("schedule", "install", PATH=str(tmp_path))
    assert done.code == 1
    assert done.err == ("Error: `crontab` is not installed. Install cron, or use `retrainer schedule show --systemd`\n")


@pytest.mark.parametrize(
    "text",
    ["", "weekyl", "@daily", "* * * *", "* * * * * *", "60 0 * * *", "0 0 L * *", "0 0 * * 1#2", "5/15 * * * *",
     "0 3 * * *\n* * * * * rm", "0 3 30 2 *", "0 3 * * 8", "% * * * *", "0 0 * * xyz"],
)  # fmt: skip
def test_an_invalid_schedule_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_schedule(text)


def test_the_named_schedules() -> None:
    assert parse_schedule("weekly").text == "0 3 * * 0"
    assert parse_schedule("Bi-Weekly").text == "0 3 */14 * *"
    assert {parse_schedule(name).text for name in NAMED} == set(NAMED.values())


@pytest.mark.parametrize(
    "text", [*NAMED.values(), "*/7 1-5/2 * * *", "0 3 13 * 5", "0 0 */10 6 mon-fri", "5 4 1,31 1,7 *"]
)
def test_systemd_fires_when_cron_would(text: str) -> None:
    program = _program("systemd-analyze")
    start = datetime(2024, 2, 20, 7, 33, tzinfo=UTC)
    lines = parse_schedule(text).calendar()
    command = [program, "calendar", "--iterations=40", f"--base-time={start:%Y-%m-%d %H:%M:%S} UTC", *lines]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC"})
    found = set(re.findall(r"\w{3} [0-9-]{10} [0-9:]{8} UTC", done.stdout))
    ours = CronSim(text, start)
    expected = [f"{next(ours):%a %Y-%m-%d %H:%M:%S} UTC" for _ in range(40 if len(lines) == 1 else 20)]
    assert set(expected) <= found


PATHS = ["/srv/project", "/srv/my project", "/srv/100%", "/srv/it's 5 %", "/srv/a\\%b", "/srv/$HOME;x", "/srv/é"]


@pytest.mark.parametrize("place", PATHS)
def test_any_path_survives_cron_and_the_shell(place: str) -> None:
    command = ScheduledCommand(Path("/bin/echo"), Path(place) / "config.yaml", Path(place) / "log")
    text = _as_run_by_cron(command.crontab_command())
    assert shlex.split(text)[:-1] == command.words


def _as_run_by_cron(command: str) -> str:
    """Return what Vixie cron runs: a bare % ends the command, and a backslash before a % is removed."""
    result = ""
    escaped = False
    for char in command:
        if escaped:
            result = result[:-1] + char if char == "%" else result + char
            escaped = False
            continue
        assert char != "%", "a line break for cron"
        escaped = char == "\\"
        result += char
    return result


@pytest.mark.parametrize("place", PATHS)
def test_any_path_survives_systemd(place: str, tmp_path: Path) -> None:
    program = _program("systemd-analyze")
    from retrainer.schedule import systemd

    command = ScheduledCommand(
        Path(sys.executable), Path(place) / "config.yaml", Path(place) / "log", Path("/dev/null")
    )
    (tmp_path / "retrainer.service").write_text(systemd.service(command, "root"))
    (tmp_path / "retrainer.timer").write_text(systemd.timer(parse_schedule("weekly")))
    done = subprocess.run(
        [program, "verify", "--man=no", str(tmp_path / "retrainer.service"), str(tmp_path / "retrainer.timer")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "retrainer." not in done.stderr, done.stderr


def test_the_environment_file_is_read_and_required(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\necho "$KEY $*" >&2\n')
    script.chmod(stat.S_IRWXU)
    variables = tmp_path / "my env"
    variables.write_text("KEY=se%cret\n")
    command = ScheduledCommand(script, CONFIG, Path("/log"), variables).crontab_command()
    line = _as_run_by_cron(command)
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True, env={})
    assert done.stderr.startswith("se%cret -P -m retrainer --quiet --config /srv/project")
    variables.unlink()
    gone = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=False, env={})
    assert gone.returncode != 0
    assert "-m retrainer" not in gone.stderr


@pytest.mark.slow
def test_jitter_delays_the_real_line_in_sh(folder: Path, cron_folder: Path, retrainer: Runner, tmp_path: Path) -> None:
    variables = tmp_path / "env"
    variables.write_text("RETRAINER_RETRAINING__ENABLED=false\n")
    plain = retrainer("schedule", "install", "--json").json
    options = ("schedule", "install", "--jitter", "45", "--env-file", str(variables), "--json")
    delayed = retrainer(*options).json
    assert retrainer(*options).json["changed"] is False, "the delay is always the same"
    *fields, sleep, seconds, _ = delayed["line"].split(maxsplit=7)
    assert (fields, sleep) == (plain["line"].split()[:5], "sleep")
    assert 0 < int(seconds.removesuffix(";")) < 45 * 60
    starts = [datetime.fromisoformat(document["next_call_at"]) for document in (plain, delayed)]
    assert (starts[1] - starts[0]).total_seconds() == int(seconds.removesuffix(";"))
    slept = tmp_path / "slept"
    (cron_folder / "sleep").write_text(f'#!/bin/sh\necho "$@" >> {slept}\n')
    (cron_folder / "sleep").chmod(stat.S_IRWXU)
    line = _as_run_by_cron(delayed["line"].split(maxsplit=5)[5])
    environ = {"PATH": f"{cron_folder}:/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", "-c", line], env=environ, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert slept.read_text() == seconds.replace(";", "\n")
    assert "is false" in (folder / "logs" / "retrainer.log").read_text(), "the environment file was read, then it ran"


def test_jitter_differs_between_projects_and_stays_below_its_limit() -> None:
    delays = {choose_delay(Path(f"/srv/{number}/config.yaml"), 10) for number in range(100)}
    assert len(delays) > 50
    assert min(delays) >= 0
    assert max(delays) < 600
    assert choose_delay(CONFIG, 0) == 0


def test_systemd_has_jitter_of_its_own(folder: Path, retrainer: Runner) -> None:
    files = retrainer("schedule", "show", "--systemd", "--jitter", "30", "--user", "ada", "--json").json["files"]
    timer = files["/etc/systemd/system/retrainer.timer"]
    assert "RandomizedDelaySec=30min\nFixedRandomDelay=true\n" in timer
    assert "sleep" not in files["/etc/systemd/system/retrainer.service"]
    assert retrainer("schedule", "show", "--systemd", "--jitter", "-1").code == 2
    for arguments, words in (
        (["daily", "--jitter", "30"], "WHEN, --jitter apply to a printed schedule only"),
        (["--user", "ada"], "--user applies to a printed schedule only"),
    ):
        done = retrainer("schedule", "show", *arguments)
        assert (done.code, done.err) == (2, f"Error: {words}. Add --system or --systemd\n")


def test_install_warns_of_variables_that_cron_will_not_set(folder: Path, cron_folder: Path, retrainer: Runner) -> None:
    done = retrainer("schedule", "install", ANTHROPIC_API_KEY="sk-secret", RETRAINER_RETRAINING__SCHEDULE_DAYS="2")
    assert "ANTHROPIC_API_KEY, RETRAINER_RETRAINING__SCHEDULE_DAYS" in done.err
    assert "sk-secret" not in done.err + done.out
    assert retrainer("schedule", "install", "--env-file", "none").code == 2


def test_install_warns_if_it_drops_the_environment_file(
    folder: Path, cron_folder: Path, retrainer: Runner, tmp_path: Path
) -> None:
    variables = tmp_path / "env"
    variables.write_text("ANTHROPIC_API_KEY=sk-secret\n")
    variables.chmod(0o644)
    assert "Run chmod 600 on it" in retrainer("schedule", "install", "--env-file", str(variables)).err
    variables.chmod(0o600)
    assert "env" not in retrainer("schedule", "install", "--env-file", str(variables)).err
    assert "this one does not: add --env-file to keep it" in retrainer("schedule", "install", "weekly").err


@pytest.mark.parametrize(
    "arguments",
    [
        ("install", "--job-log", "config"),
        ("install", "--job-log", "/no/such/folder/x.log"),
        ("show", "--systemd", "--user", "root\nExecStartPre=/bin/evil"),
        ("show", "--system", "--user", "a b"),
        ("show", "--system", "--systemd"),
    ],
)
def test_invalid_schedule_options_are_refused(
    arguments: tuple[str, ...], folder: Path, cron_folder: Path, retrainer: Runner
) -> None:
    done = retrainer("schedule", *arguments)
    assert (done.code, done.out) == (2, "")
    assert not (cron_folder / "table").exists()


def test_an_unprintable_path_is_refused() -> None:
    with pytest.raises(UsageError, match="unprintable"):
        ScheduledCommand(Path("/bin/python"), Path("/a\nb"), Path("/log"))


@pytest.mark.parametrize(
    ("schedule", "now", "following"),
    [
        ("monthly", datetime(2026, 10, 20, 12), "2026-11-01T03:00:00+01:00"),  # noqa: DTZ001  local time
        ("30 2 * * *", datetime(2026, 3, 28, 12), "2026-03-29T03:30:00+02:00"),  # noqa: DTZ001  the clock skips from 2 to 3
        ("30 2 * * *", datetime(2026, 10, 24, 12), "2026-10-25T02:30:00+02:00"),  # noqa: DTZ001  that hour comes twice
    ],
)
def test_the_next_call_has_its_own_utc_offset(
    schedule: str, now: datetime, following: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        found = parse_schedule(schedule).next_after(now)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found.isoformat() == following


def test_a_held_crontab_lock_is_waited_for_only_so_long(
    folder: Path, cron_folder: Path, retrainer: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrainer.schedule.crontab._LOCK_SECONDS", 0.2)
    with (cron_folder / "crontab").open() as program:
        fcntl.flock(program, fcntl.LOCK_EX)
        assert retrainer("schedule", "install").code == 0
    assert b"BEGIN retrainer" in (cron_folder / "table").read_bytes()


def test_the_system_line_has_the_user(folder: Path, retrainer: Runner) -> None:
    done = retrainer("schedule", "show", "weekly", "--system", "--user", "trainer")
    assert done.out.startswith(f"0 3 * * 0 trainer {sys.executable} -P -m retrainer --quiet --config {folder}/config/")


def test_the_error_of_a_damaged_block_names_its_lines() -> None:
    with pytest.raises(RetrainerError, match="do not pair up"):
        installed_line(b"# BEGIN retrainer /srv/project/config/config.yaml\n1 1 * * * x\n", CONFIG)


def _program(name: str) -> str:
    import shutil

    program = shutil.which(name)
    if program is None:
        pytest.skip(f"there is no {name} here")
    return program


def test_crontab_gets_no_credentials(cron_folder: Path, folder: Path, retrainer: Runner) -> None:
    (cron_folder / "hook").write_text("env > seen\n")
    (cron_folder / "table").write_text("# nothing\n")
    secrets = {"RETRAINER_API_TOKEN": "hush-hush", "ANTHROPIC_API_KEY": "hush-hush"}
    assert retrainer("schedule", "show", env=secrets).code == 0
    seen = (cron_folder / "seen").read_text()
    assert "PATH=" in seen
    assert "hush-hush" not in seen


def test_install_names_the_secrets_of_sources_that_cron_will_not_set(
    folder: Path, cron_folder: Path, retrainer: Runner
) -> None:
    sources = "{a: {type: mastodon, token_variable: A_TOKEN}, b: {type: json, secret_headers: {X-Key: B_KEY}}}"
    configure(folder, sources=sources)
    done = retrainer("schedule", "install", env={"A_TOKEN": "1", "B_KEY": "2", "C_KEY": "3"})
    assert "cron will not set A_TOKEN, B_KEY, which this shell sets" in done.err
    assert " train --fetch --if-due " in (cron_folder / "table").read_text()


def test_the_line_of_several_streams_trains_all_of_them(folder: Path, cron_folder: Path, retrainer: Runner) -> None:
    refused = retrainer("schedule", "install", "--jobs", "2")
    assert refused.code == 2
    assert "--jobs applies to several streams only" in refused.err
    assert retrainer("schedule", "install").code == 0
    assert "trains nothing" not in retrainer("doctor").out
    project = open_project(folder)
    for name in ("one", "two"):
        project.posts.for_stream(name).add(regular_posts(3), NOW)
    shown = retrainer("schedule", "show")
    assert "this line trains nothing: it needs --all-streams. Run `retrainer schedule install` again" in shown.err
    assert "The timing model is due in 2 of 2 streams\n" in shown.out
    nothing = "the schedule in your crontab trains nothing: with several streams, it needs --all-streams"
    for command, key in (("status", "problems"), ("doctor", "findings")):
        found = {one["message"]: one["hint"] for one in retrainer(command, "--json").json[key]}
        assert found[nothing] == "Run `retrainer schedule install` again"
    installed = retrainer("schedule", "install", "weekly", "--jobs", "2", "--json")
    assert "trains nothing" not in retrainer("schedule", "show").err + retrainer("doctor").out
    assert "train --fetch --if-due --all-streams --jobs 2 >" in installed.json["line"]
    assert (cron_folder / "table").read_text().count("train --fetch") == 1
    paid = {"RETRAINER_CONTENT_MODEL__ALGORITHM": "claude_api"}
    refused = retrainer("schedule", "install", env=paid)
    assert refused.code == 2
    assert "uses the paid algorithm 'claude_api'. Limit the total cost with --max-cost" in refused.err
    unit = retrainer("schedule", "show", "--systemd", "--max-cost", "1234567.5", env=paid).out
    assert "--if-due --all-streams --max-cost 1234567.5\n" in unit
