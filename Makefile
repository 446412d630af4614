# make demo   a portrait says a sentence: out/demo.mp4
#             PORTRAIT=me.jpg      whose face (default: the astronaut that scikit-image carries, public domain)
#             SPEECH=hello.wav     what is said, or
#             TEXT="..." VOICE=en  a sentence for the bundled voice (with lips 1.5: it makes people mumble)
# make test   lint, types and tests
#
# Both set up .venv first, demo with less. PYTHON=python3.12 chooses its Python (3.10, 3.11 or 3.12).

.DEFAULT_GOAL := demo
.PHONY: demo test setup

PYTHON ?=
PORTRAIT ?= out/astronaut.png
SPEECH ?=
TEXT ?= Hello! I am a photograph, and now I can talk. All it took was a picture, a voice, and two processor cores.
VOICE ?= en
# recipes read these from the environment, so that spaces and quotes in them do no harm
export PYTHON PORTRAIT SPEECH TEXT VOICE

demo: .venv/.ready out/astronaut.png
	@if [ -n "$$SPEECH" ]; then set -- "$$SPEECH"; else set -- --text "$$TEXT" --voice "$$VOICE" --lips 1.5; fi; \
	echo "Making out/demo.mp4: $$PORTRAIT says $${SPEECH:-\"$$TEXT\"}"; \
	.venv/bin/python -m magictalk.app.cli animate "$$PORTRAIT" "$$@" -o out/demo.mp4 --overwrite > /dev/null && \
	echo "Done: $$PWD/out/demo.mp4"

test: .venv/.tools
	.venv/bin/python -m ruff check .
	.venv/bin/python -m mypy src
	.venv/bin/python -m pytest

setup: .venv/.tools

out/astronaut.png: .venv/.ready
	@mkdir -p out
	@.venv/bin/python -c 'from skimage import data, io; io.imsave("$@", data.astronaut(), check_contrast=False)'

.venv/.ready: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing packages into .venv; the first time takes some minutes."
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@.venv/bin/python -c 'import cv2' || { \
		echo "OpenCV cannot be loaded; a system library is missing: apt-get install libgl1 libglib2.0-0" >&2; exit 1; }
	@touch $@

.venv/.tools: .venv/.ready
	@echo "Installing what data, metrics and tests need."
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

.venv/bin/python:
	@if [ -n "$$PYTHON" ]; then set -- "$$PYTHON"; else set -- python3 python3.12 python3.11 python3.10; fi; \
	for name in "$$@"; do \
		if "$$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2> /dev/null; then \
			"$$name" -m venv .venv || { rm -rf .venv; exit 1; }; exit 0; \
		fi; \
	done; \
	echo "MagicTalk needs Python 3.10, 3.11 or 3.12, and $$* is none of them;" \
		"install one, or name it: make PYTHON=/path/to/python3.12" >&2; \
	exit 1
