"""Build the compiled core: ``csrc/`` once, as a static library, and what links with it.

Each ``confsim/_kernels/NAME.pyx`` becomes an extension module. Whatever in ``csrc/`` is older than
a source, a header or this file, or was compiled with other flags, is compiled again; so nothing
stale is ever linked. Everything else is in ``pyproject.toml``.

Environment
-----------
CONFSIM_OPENMP : {"auto", "on", "off"}
    ``auto`` (default) uses OpenMP when a probe program compiles and links, ``on`` fails without it,
    ``off`` builds kernels that run on one thread.
CONFSIM_SANITIZE : str
    A value for ``-fsanitize=``, for instance ``address,undefined``.
"""

import hashlib
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError
from setuptools.modified import newer_group

SOURCES = sorted(map(str, Path("csrc").rglob("*.c")))
HEADERS = sorted(map(str, [*Path("csrc").rglob("*.h"), *Path("csrc").rglob("*.inc")]))
FLAGS = [
    "-std=c11",
    "-O3",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wno-unused-function",
]
#: Python's own flags ask for debug symbols, four fifths of a wheel that nobody debugs.
SMALL_COMPILE, SMALL_LINK = ["-g0"], ["-Wl,-s"] if sys.platform.startswith("linux") else []
#: What Cython makes of a wrapper is mostly code that runs once, and half of a wheel.
WRAPPER = ["-Os"]
EMPTY_PROBE = "int main(void) { return 0; }\n"
PYTHON_PROBE = "#include <Python.h>\n#include <math.h>\nint main(void) { return 0; }\n"
OPENMP_PROBE = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
REMEDY = (
    "Debian, Ubuntu: apt install build-essential python3-dev; "
    "Fedora: dnf install gcc python3-devel; macOS: xcode-select --install; "
    "conda: conda install c-compiler"
)


class Build(build):
    """``build`` that compiles first, so that what it lacks is said before pages of output."""

    sub_commands = sorted(build.sub_commands, key=lambda command: command[0] != "build_ext")


class BuildKernels(build_ext):
    """``build_ext`` that first asks what the compiler can do, and says what it lacks."""

    def build_extensions(self):
        self.check_compiler()
        compile_flags, link_flags, reason = self.openmp()
        print(
            f"confsim: OpenMP {'on' if compile_flags else 'off: kernels use one thread'} ({reason})"
        )
        sanitize = os.environ.get("CONFSIM_SANITIZE")
        if sanitize:
            compile_flags = [
                *compile_flags,
                f"-fsanitize={sanitize}",
                "-fno-omit-frame-pointer",
                "-g",
            ]
            link_flags = [*link_flags, f"-fsanitize={sanitize}"]
        else:
            compile_flags = [*compile_flags, *SMALL_COMPILE]
            link_flags = [*link_flags, *SMALL_LINK]
        for extension in self.extensions:
            extension.extra_compile_args += [*compile_flags, *WRAPPER]
            extension.extra_link_args += link_flags
        library = self.library([*FLAGS, *compile_flags])
        for extension in self.extensions:
            extension.extra_objects.append(library)
            extension.depends.append(library)
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()

    def library(self, flags):
        """Compile what is out of date in ``csrc/`` and return the path of the static library."""
        words = [*self.compiler.compiler_so, *flags]
        digest = hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]
        folder = str(Path(self.build_temp) / f"csrc-{digest}")
        objects = self.compiler.object_filenames(SOURCES, output_dir=folder)
        stale = [
            source
            for source, built in zip(SOURCES, objects, strict=True)
            if self.force or newer_group([source, *HEADERS, "setup.py"], built)
        ]

        def compile_one(source):
            self.compiler.compile(
                [source], output_dir=folder, include_dirs=["csrc"], extra_postargs=flags
            )

        with ThreadPoolExecutor(self.parallel or os.cpu_count() or 1) as pool:
            list(pool.map(compile_one, stale))
        name = str(Path(folder, self.compiler.library_filename("confsim_core")))
        # Anew, because `ar` keeps members whose source is gone; every module is then linked again.
        Path(name).unlink(missing_ok=True)
        self.compiler.create_static_lib(objects, "confsim_core", output_dir=folder)
        return name

    def check_compiler(self):
        """End with one line that says what to install where C programs cannot be built."""
        if not self.links(EMPTY_PROBE):
            raise SystemExit(f"confsim needs a C compiler, and none works here. {REMEDY}")
        if not self.links(PYTHON_PROBE, include_dirs=self.compiler.include_dirs):
            raise SystemExit(
                "confsim needs the C headers of this Python and of the C library, and the "
                f"compiler does not find them. {REMEDY}"
            )

    def openmp(self):
        """Return (compile flags, link flags, reason); no flags when OpenMP is not used."""
        wanted = os.environ.get("CONFSIM_OPENMP", "auto")
        if wanted not in ("auto", "on", "off"):
            raise SystemExit(f"CONFSIM_OPENMP must be auto, on or off, not {wanted!r}")
        if wanted == "off":
            return [], [], "CONFSIM_OPENMP=off"
        candidates = [(["-fopenmp"], ["-fopenmp"])]
        if sys.platform == "darwin":
            candidates.insert(0, (["-Xpreprocessor", "-fopenmp"], ["-lomp"]))
        for compile_flags, link_flags in candidates:
            if self.links(OPENMP_PROBE, compile_flags, link_flags):
                return compile_flags, link_flags, "the compiler supports it"
        if wanted == "on":
            raise SystemExit("CONFSIM_OPENMP=on, but the compiler cannot build an OpenMP program")
        return [], [], "the compiler cannot build an OpenMP program"

    def links(self, source, compile_flags=(), link_flags=(), include_dirs=None):
        """Whether a program compiles and links."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.c"
            path.write_text(source)
            try:
                objects = self.compiler.compile(
                    [str(path)],
                    output_dir=folder,
                    include_dirs=include_dirs,
                    extra_postargs=list(compile_flags),
                )
                self.compiler.link_executable(
                    objects, "probe", output_dir=folder, extra_postargs=list(link_flags)
                )
            except (CompileError, LinkError):
                return False
        return True


def extensions():
    """Return one ``Extension`` for each wrapper, all with the same flags."""
    built = [
        Extension(
            f"confsim._kernels.{wrapper.stem}",
            sources=[str(wrapper)],
            include_dirs=["csrc", numpy.get_include()],
            depends=[*HEADERS, "setup.py"],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
            extra_compile_args=list(FLAGS),
            libraries=["m"],
        )
        for wrapper in sorted(Path("confsim/_kernels").glob("*.pyx"))
    ]
    return cythonize(
        built, language_level=3, compiler_directives={"boundscheck": False, "wraparound": False}
    )


if sys.platform == "win32":
    raise SystemExit("confsim builds on Linux and macOS; on Windows, install it inside WSL")

setup(ext_modules=extensions(), cmdclass={"build": Build, "build_ext": BuildKernels})
