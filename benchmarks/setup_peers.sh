#!/usr/bin/env bash
# Makes an environment with fastload and every peer of the benchmarks, from package registries alone.
#
#     benchmarks/setup_peers.sh [FOLDER]      default: ~/.cache/fastload-benchmarks/peers
#
# Needs Python 3.11 (FFCV 1.0.2 imports distutils, which 3.12 dropped; uv fetches 3.11 where it is missing) and, for
# FFCV's extension, a C++ compiler, pkg-config, OpenCV and libjpeg-turbo with headers. On Debian and Ubuntu those are
# installed here if this is run as root; otherwise the command to run is printed. Without them the other peers are
# installed and FFCV is named as absent in every result.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
folder="${1:-${XDG_CACHE_HOME:-$HOME/.cache}/fastload-benchmarks/peers}"
system_packages=(libturbojpeg0-dev libopencv-dev pkg-config g++)

missing=()
if command -v dpkg-query >/dev/null 2>&1; then
  for package in "${system_packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing+=("$package")
  done
fi
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    missing=()
  else
    echo "FFCV needs: sudo apt-get install ${missing[*]}" >&2
  fi
fi
requirements="$(mktemp)"
trap 'rm -f "$requirements"' EXIT
cp "$here/peers-requirements.txt" "$requirements"
if ! pkg-config --exists opencv4 libturbojpeg 2>/dev/null; then
  echo "OpenCV or libjpeg-turbo has no headers here: going on without FFCV" >&2
  sed -i.bak '/^ffcv/d' "$requirements" && rm -f "$requirements.bak"
fi

if command -v uv >/dev/null 2>&1; then
  uv venv --quiet --allow-existing --python 3.11 "$folder"
  install=(uv pip install --quiet --python "$folder/bin/python")
else
  python3.11 -m venv "$folder"
  "$folder/bin/python" -m pip install --quiet --upgrade pip
  install=("$folder/bin/python" -m pip install --quiet)
fi
"${install[@]}" -r "$requirements" -e "$here/.."
# Albumentations 2.0.8 is its last release under the MIT licence (AlbumentationsX is AGPL). It asks for
# opencv-python-headless, which would overwrite the files of opencv-python.
"${install[@]}" --no-deps albumentations==2.0.8 albucore==0.0.24 simsimd stringzilla

# Versions, and whether each can be imported: kept beside the environment.
cd "$here/.."
"$folder/bin/python" - <<'PYTHON' | tee "$folder/versions.txt"
import importlib

from benchmarks.harness import machine
from benchmarks.peers import PEERS

described = machine.describe()
print("python", described["python"])
for package, version in described["versions"].items():
    print(package, version)
for module in sorted({module for entry in PEERS.values() for module in entry.requires}):
    try:
        importlib.import_module(module)
    except Exception as error:
        print(f"ABSENT {module}: {type(error).__name__}: {error}")
PYTHON
echo "run:  $folder/bin/python -m pytest -c benchmarks/pytest.ini benchmarks/test_loaders.py" >&2
