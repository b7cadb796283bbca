"""A Slurm cluster of one or two nodes on this machine, for as long as the tests take.

``munged``, ``slurmctld`` and ``slurmd`` run from a generated configuration, on free ports, in a
temporary directory; exactly those processes are stopped again. Nothing of a cluster that may be
installed on the machine is touched.

The second node is a ``slurmd`` with process ids and a boot id of its own (``unshare``, which needs
root): to whoever looks from the first, it is another machine, and it dies with one process.
"""

import contextlib
import getpass
import os
import re
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")

_CONFIGURATION = """\
ClusterName=confsim-tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0
MpiDefault=none
ReturnToService=2
KillWait=5
OverTimeLimit=0
MailProg=/bin/true
SlurmdTimeout=20
GresTypes=gpu
PartitionName=tests Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

_NODE = (
    "NodeName={name} Gres=gpu:1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
    "CPUs=4 RealMemory=64000\n"
)

_UNSHARE = ("unshare", "--pid", "--mount", "--fork", "--mount-proc")
_UP = ("idle", "mix", "alloc")

#: Starts the second node: its arguments are its boot id and how ``slurmd`` is called.
_OTHER_MACHINE = 'mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"'


def missing_programs() -> list[str]:
    """Return the programs of Slurm and munge that this machine lacks."""
    return [name for name in PROGRAMS if find(name) is None]


def find(name: str) -> str | None:
    """Find a program; daemons are often outside of a user's path."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for a condition, or fail saying for what."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds:.0f} s")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """A running cluster, and how to use it.

    Attributes
    ----------
    environment : dict of str to str
        What jobs and clients run with; tests put their commands on its ``PATH``.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.hurried: set[tuple[str, str | None]] = set()
        self.environment = {
            **{key: value for key, value in environment.items() if not key.startswith("SLURM")},
            "SLURM_CONF": str(folder / "slurm.conf"),
        }

    def call(self, *arguments: object, check: bool = True) -> str:
        """Run a client program; return what it prints."""
        done = subprocess.run(
            [find(str(arguments[0])) or str(arguments[0]), *map(str, arguments[1:])],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
            timeout=120,
        )
        if check and done.returncode:
            raise RuntimeError(f"{arguments}: {done.stdout}{done.stderr}\n{self.logs()}")
        return done.stdout.strip()

    def submit(self, *arguments: object) -> str:
        """Submit a batch job; return its number."""
        return self.call("sbatch", "--parsable", *arguments)

    def states(self, job: str) -> list[str]:
        """Return the states of a job's tasks."""
        text = self.call("scontrol", "show", "job", job, check=False)
        return [word.partition("=")[2] for word in text.split() if word.startswith("JobState=")]

    def wait(self, job: str, seconds: float = 120) -> list[str]:
        """Wait until a job has ended, letting requeued tasks begin at once; return its states."""
        over = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED"}

        def ended() -> bool:
            if "PENDING" in (states := self.states(job)):
                self.hurry(job)
            return bool(states) and set(states) <= over

        wait_until(ended, seconds, f"the end of job {job}")
        return self.states(job)

    def node_state(self, name: str) -> str:
        """Return the state of a node: idle, mix, alloc, down, ..."""
        return self.call("sinfo", "--noheader", "--format=%t", "--nodes", name, check=False)

    def hurry(self, job: str) -> None:
        """Slurm lets a requeued job wait two minutes: make it two seconds.

        Not less: a batch script that is launched in the second in which it was killed is refused.
        """
        text = self.call("scontrol", "--oneliner", "show", "job", job, check=False)
        for line in text.splitlines():
            if "Reason=BeginTime" in line:
                number = line.split()[0].partition("=")[2]
                start = re.search(r"\bRestarts=\d+", line)
                if (number, start and start[0]) not in self.hurried:
                    self.hurried.add((number, start and start[0]))
                    self.call(
                        "scontrol", "update", f"JobId={number}", "StartTime=now+2", check=False
                    )

    def logs(self) -> str:
        """Return the ends of all logs."""
        paths = [*sorted(self.folder.glob("*.log")), *sorted(self.folder.glob("*.out"))]
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in paths
        )


class Node:
    """The second node: another machine, as far as one can see, that can be switched off and on."""

    def __init__(self, made: Cluster) -> None:
        self._made = made
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def switch_on(self) -> None:
        """Start it; each start is a boot of its own."""
        boot = self._made.folder / f"boot-{uuid.uuid4()}"
        boot.write_text(f"{uuid.uuid4()}\n")
        slurmd = [find("slurmd"), "-D", "-N", "other", "-f", self._made.folder / "slurm.conf"]
        self._process = self._stack.enter_context(
            _daemon(
                self._made,
                [*_UNSHARE, "--kill-child", "sh", "-c", _OTHER_MACHINE, "sh", boot, *slurmd],
            )
        )
        wait_until(lambda: self._made.node_state("other") == "idle", 60, "the second node")

    def processes(self) -> list[psutil.Process]:
        """Return what runs on it, beginning with its first process."""
        assert self._process is not None
        return psutil.Process(self._process.pid).children(recursive=True)

    def tasks(self) -> list[psutil.Process]:
        """Return the Python processes that run on it."""
        return [process for process in self.processes() if "python" in process.name()]

    def switch_off(self) -> None:
        """Kill its first process, and with it all that runs on it, at once."""
        self.processes()[0].kill()
        self._stack.close()

    def close(self) -> None:
        """Stop it."""
        self._stack.close()


def can_have_two_nodes() -> bool:
    """Whether this machine lets one start processes that seem to be another's."""
    if find("unshare") is None:
        return False
    return subprocess.run([*_UNSHARE, "true"], capture_output=True).returncode == 0


@contextlib.contextmanager
def second_node(made: Cluster) -> Iterator[Node]:
    """Start the second node of a cluster of two, and stop it again."""
    node = Node(made)
    try:
        node.switch_on()
        yield node
    finally:
        node.close()


@contextlib.contextmanager
def cluster(folder: Path, *, nodes: int = 1) -> Iterator[Cluster]:
    """Start a cluster in ``folder`` and stop it again; a second node is configured, not started."""
    names = ("node", "other")[:nodes]
    for name in ("state", *(f"spool-{name}" for name in names)):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    host = socket.gethostname().split(".")[0]
    configuration = _CONFIGURATION.format(
        host=host, controller_port=_free_port(), user=getpass.getuser(), folder=folder
    )
    for name in names:
        configuration += _NODE.format(name=name, host=host, port=_free_port())
    (folder / "slurm.conf").write_text(configuration)
    (folder / "gres.conf").write_text(
        "".join(f"NodeName={name} Name=gpu File=/dev/null\n" for name in names)
    )
    made = Cluster(folder, dict(os.environ))
    configuration_option = ("-f", folder / "slurm.conf")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_daemon(made, _munged(folder)))
        wait_until((folder / "munge.socket").exists, 20, "munged")
        stack.enter_context(_daemon(made, ["slurmctld", "-D", *configuration_option]))
        stack.enter_context(_daemon(made, ["slurmd", "-D", "-N", "node", *configuration_option]))
        try:
            wait_until(lambda: made.node_state("node") in _UP, 60, "the node")
        except TimeoutError as error:
            raise RuntimeError(f"{error}\n{made.logs()}") from None
        yield made
        made.call("scancel", "--user", getpass.getuser(), check=False)
        wait_until(lambda: not made.call("squeue", "--noheader", check=False), 60, "an empty queue")


def _munged(folder: Path) -> list[object]:
    return [
        "munged",
        "--foreground",
        "--force",
        f"--key-file={folder}/munge.key",
        f"--socket={folder}/munge.socket",
        f"--pid-file={folder}/munge.pid",
        f"--log-file={folder}/munged.log",
        f"--seed-file={folder}/munge.seed",
    ]


@contextlib.contextmanager
def _daemon(made: Cluster, command: Sequence[object]) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a daemon in the foreground, and stop that process alone."""
    name, *arguments = command
    with (made.folder / f"{name}-output.log").open("a") as log:
        process = subprocess.Popen(
            [str(find(str(name))), *map(str, arguments)],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=made.environment,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
