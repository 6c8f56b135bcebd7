"""Build the libraries that are loaded into other programs; everything else is in pyproject.toml."""

import shutil
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent))

from gputrace.errors import UsageError
from gputrace.interpose.library import NAMES, compile_to


class Build(build_py):
    """Copy the package, then compile the libraries into the copy where there is a compiler."""

    def run(self) -> None:
        """Run the command; without a compiler the rest installs and works."""
        super().run()
        if self.editable_mode:
            return  # it is built on first use
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            print("no C compiler: `gputrace run` will ask for one", file=sys.stderr)
            return
        try:
            for tap, name in NAMES.items():
                compile_to(Path(self.build_lib) / "gputrace/interpose" / name, compiler, tap=tap)
        except UsageError as error:
            print(error, file=sys.stderr)


class Binary(Distribution):
    """A distribution that is not the same on every machine."""

    def has_ext_modules(self) -> bool:
        """Say that wheels of it belong to a platform."""
        return True


setup(cmdclass={"build_py": Build}, distclass=Binary)
