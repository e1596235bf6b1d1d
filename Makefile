PYTHON ?= python3

DATA_DIR ?= data
PIP = $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-compile

# Packages installed with --no-compile are compiled by the first process that imports them, and not
# by each of the processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: check install lint tests coverage fix notebook dist docs results pretrained assets FORCE

check:  ## what CI runs: install, format, lint, types, tests
	$(MAKE) install
	$(MAKE) --jobs=2 lint tests

install:  ## the packages for development, by uv where it works (a quarter of the time) or else by pip
	$(PIP) uv && $(PYTHON) -m uv pip install --quiet -r requirements-dev.txt || $(PIP) -r requirements-dev.txt

lint:  ## format, lint and types
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

tests:  ## the tests, in two processes
	$(PYTHON) -m pytest -n 2 --dist worksteal

coverage:  ## run the tests and show which lines and branches they leave out
	$(PIP) pytest-cov
	$(PYTHON) -m pytest -n 2 --dist worksteal --cov --cov-report=term-missing:skip-covered

fix:  ## format and apply safe lint fixes
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

notebook:  ## run the notebook anew, and keep what it shows
	$(PIP) nbconvert ipykernel
	PYTHONPATH=$(CURDIR) $(PYTHON) -m jupyter nbconvert --to notebook --execute --inplace examples/digits.ipynb

dist:  ## wheel and source distribution, in dist/
	$(PIP) build twine
	$(PYTHON) -m build --outdir dist .
	$(PYTHON) -m twine check --strict dist/*

docs:  ## update the tables in docs/ and build the site in build/site; warnings are errors
	$(PIP) -e '.[docs]'
	$(PYTHON) benchmarks/pages.py
	$(PYTHON) -m sphinx -q -W --keep-going -c docs -d build/doctrees . build/site

results:  ## update the tables in docs/ and list the results that another version measured
	$(PYTHON) benchmarks/pages.py
	$(PYTHON) benchmarks/record.py

pretrained:  ## all pretrained models anew, of the data in DATA_DIR (hours); or pretrained/NAME.npz
	$(PYTHON) benchmarks/pretrained.py --data_dir $(DATA_DIR)

pretrained/%.npz: FORCE
	$(PYTHON) benchmarks/pretrained.py $* --data_dir $(DATA_DIR)

assets:  ## the pictures in assets/ anew, by the pretrained models and small trainings
	$(PYTHON) benchmarks/assets.py --data_dir $(DATA_DIR)
