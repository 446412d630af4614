# make demo   a portrait says a sentence: out/demo.mp4
#             PORTRAIT=me.jpg   whose face (default: the astronaut that scikit-image carries, public domain)
#             SPEECH=hello.wav  what is said, or
#             TEXT="..." VOICE=en  a sentence for the bundled voice
# make test   lint, types and tests
#
# Both set up .venv first; PYTHON=python3.12 chooses its Python (3.10, 3.11 or 3.12).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := demo
.PHONY: demo test setup

PYTHON ?=
PORTRAIT ?=
SPEECH ?=
TEXT ?= Hello! I am a photograph, and now I can talk. All it took was a picture, a voice, and two processor cores.
VOICE ?= en
# recipes read these from the environment, so that spaces and quotes in them need no escaping
export PYTHON PORTRAIT SPEECH TEXT VOICE

demo: .venv/.ready
	@mkdir -p out
	if [ -z "$$PORTRAIT" ]; then
		PORTRAIT=out/astronaut.png
		.venv/bin/python -c 'from skimage import data, io; io.imsave("out/astronaut.png", data.astronaut(), check_contrast=False)'
	fi
	if [ -n "$$SPEECH" ]; then
		echo "Making out/demo.mp4: $$PORTRAIT speaks $$SPEECH ..."
		said=("$$SPEECH")
	else
		echo "Making out/demo.mp4: $$PORTRAIT says \"$$TEXT\" ..."
		said=(--text "$$TEXT" --voice "$$VOICE")
	fi
	.venv/bin/python -m magictalk.app.cli animate "$$PORTRAIT" "$${said[@]}" -o out/demo.mp4 --overwrite > /dev/null
	echo "Done: $$PWD/out/demo.mp4"

test: .venv/.ready
	.venv/bin/ruff check .
	.venv/bin/mypy src
	.venv/bin/python -m pytest

setup: .venv/.ready

.ONESHELL:
.venv/.ready: pyproject.toml constraints.txt
	@if [ ! -x .venv/bin/python ]; then
		python=
		for name in $${PYTHON:-python3 python3.12 python3.11 python3.10 python}; do
			if "$$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2> /dev/null; then
				python=$$name
				break
			fi
		done
		if [ -z "$$python" ]; then
			echo "MagicTalk needs Python 3.10, 3.11 or 3.12, and $${PYTHON:-this machine} has none of them;" \
				"install one, or name it: make PYTHON=/path/to/python3.12" >&2
			exit 1
		fi
		echo "Setting up .venv with $$("$$python" --version); this downloads some packages and takes a few minutes."
		"$$python" -m venv .venv || { rm -rf .venv; exit 1; }
	fi
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	.venv/bin/python -c 'import cv2' || {
		echo "OpenCV cannot be loaded; a system library is missing: apt-get install libgl1 libglib2.0-0" >&2
		exit 1
	}
	touch .venv/.ready
