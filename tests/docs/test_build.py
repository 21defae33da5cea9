import subprocess
import sys
from pathlib import Path

from tests.docs.pages import DOCS, ROOT


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "trees")
    done = subprocess.run(
        (*command, DOCS, tmp_path / "html"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    built = (tmp_path / "html/reference/configuration.html").read_text()
    assert "mesh.secret_file" in built
    assert "generated:" not in built
