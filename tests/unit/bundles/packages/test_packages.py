"""What no package can be called is refused before anything is made."""

from __future__ import annotations

import pytest

from crossfarm.bundles.packages.packages import check_names
from crossfarm.errors import ConfigError


@pytest.mark.parametrize("model", ["class", "json", "numpy", "3d_net"])
def test_a_model_that_python_cannot_import_is_refused(model: str) -> None:
    with pytest.raises(ConfigError, match=f"model {model}: .* another name in models.yaml"):
        check_names(model, "")


@pytest.mark.parametrize("release", ["1.2.0", "2", "1.0rc1", "1.0.post2", "1.0.dev3", "1.0+board.1"])
def test_versions_of_pep_440_are_taken(release: str) -> None:
    check_names("efficientnet_lite0", release)


@pytest.mark.parametrize("release", ["one", "1.0-", "1.0 ", "../1", "1.0\n", "v1.0", "1.0+", "\u0661.0"])
def test_what_is_no_version_is_refused(release: str) -> None:
    with pytest.raises(ConfigError, match=r"give a version such as 1\.2\.0"):
        check_names("efficientnet_lite0", release)
