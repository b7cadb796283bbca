# What the scripts beside this one share; sourced by them, from the top of the repository.

say() { printf '\n== [%d s] %s\n' "$SECONDS" "$*"; }

# All Pythons that confsim supports, found on PATH and in pyenv: "3.10.13 /path/to/python", oldest first.
pythons() {
    local candidate minor
    {
        for minor in 10 11 12 13 14; do type -ap "python3.$minor" || true; done
        type -ap python3 || true
        ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3 2>/dev/null || true
    } | while read -r candidate; do
        "$candidate" -c 'import ensurepip, sys, venv
if (3, 10) <= sys.version_info[:2] <= (3, 14):
    print("%d.%d.%d" % sys.version_info[:3], sys.executable)' 2>/dev/null || true
    done | sort -V | awk '!seen[$1]++'
}

# Copy what git tracks (with changes that are not committed yet) to a folder.
clean_copy() {
    mkdir -p "$1"
    git ls-files -z | xargs -0 tar cf - | tar xf - -C "$1"
}

# The tests that need neither a deep-learning framework nor a cluster nor many minutes, nor say the same on
# every Python, against what is installed in an environment: fast_tests ENVIRONMENT [FOLDER OF TESTS].
fast_tests() {
    OMP_NUM_THREADS=1 "$1/bin/pytest" -q -p no:cacheprovider --ignore-glob='*/test_deep_*' \
        --ignore-glob='*/cluster/*' --ignore-glob='*/test_faults.py' --ignore-glob='*/test_runner.py' \
        --ignore-glob='*/test_artifacts.py' --ignore-glob='*/test_struck.py' \
        --ignore-glob='*/test_untrusted.py' \
        --ignore-glob='*/test_shadow_kills.py' --ignore-glob='*/test_docs.py' \
        --ignore-glob='*/test_readme.py' --ignore-glob='*/test_report_page.py' "${2:-tests}"
}
