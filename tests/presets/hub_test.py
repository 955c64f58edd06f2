"""Presets on hubs: the real clients against a local server."""

import hashlib
import json
import pathlib
import shutil
import sys

import fake_hubs
import kagglehub
import pytest
import yaml
from conftest import assert_same
from huggingface_hub import constants
from kagglesdk import kaggle_env

import keras_l2l
from keras_l2l import presets
from keras_l2l.rules import serialization
from keras_l2l.utils import files

SHIPPED = pathlib.Path(presets.__file__).parent / "weights"
PRESET = SHIPPED / "l2l_digits_mlp"
FILES = {"config.json", "meta_params.npz", "metadata.json"}
URIS = {
    "hf": "hf://ada/digits",
    "kaggle": "kaggle://ada/digits/keras/mlp",
}


# One for all tests: some versions of a client keep the first address.
@pytest.fixture(scope="session")
def server():
    with fake_hubs.running() as hubs:
        yield hubs


@pytest.fixture
def hubs(server, monkeypatch, tmp_path):
    server.clear()
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url
        + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setitem(
        kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.QA, server.url
    )
    for name, value in {
        "KAGGLE_API_ENVIRONMENT": "QA",
        "KAGGLEHUB_CACHE": str(tmp_path / "kaggle"),
        "HF_TOKEN": fake_hubs.TOKEN,
        "KAGGLE_API_TOKEN": fake_hubs.TOKEN,
    }.items():
        monkeypatch.setenv(name, value)
    # It reads the source of each module in the stack, for seconds.
    monkeypatch.setattr(kagglehub.clients, "get_user_agent", lambda: "test")
    return server


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(PRESET, tmp_path / "preset")


def forge(folder, config):
    """Replaces the configuration of a preset, with a digest that is right."""
    content = files.to_json(config)
    (folder / "config.json").write_bytes(content)
    metadata = files.read_json(folder / "metadata.json")
    metadata["sha256"]["config.json"] = hashlib.sha256(content).hexdigest()
    files.write_json(folder / "metadata.json", metadata)


def repo(hubs, scheme, version=1):
    """Returns the files that the hub has in `URIS`."""
    name = URIS[scheme].partition("://")[2]
    return hubs.repos[name if scheme == "hf" else f"{name}/{version}"]


@pytest.mark.parametrize("scheme", URIS)
def test_what_is_uploaded_is_what_is_loaded(hubs, folder, scheme):
    (folder / ".env").write_text("SECRET=1")
    keras_l2l.upload_preset(URIS[scheme], folder)
    assert {*repo(hubs, scheme)} == FILES | {"card.json", "README.md"}
    assert {p.name for p in folder.iterdir()} == FILES | {"card.json", ".env"}
    optimizer = keras_l2l.LearnedOptimizer.from_preset(URIS[scheme])
    assert f"preset={URIS[scheme]}," in repr(optimizer)
    assert optimizer.horizon == 100
    expected = presets.load_preset(folder).meta_params
    assert_same(optimizer.meta_params, expected)


@pytest.mark.parametrize("scheme", URIS)
def test_the_latest_version_is_loaded(hubs, scheme):
    keras_l2l.upload_preset(URIS[scheme], "l2l_digits_mlp")
    first = presets.load_preset(URIS[scheme])
    own = keras_l2l.LearnedOptimizer(rule=keras_l2l.rules.Adam(), horizon=7)
    keras_l2l.upload_preset(URIS[scheme], own)
    latest = presets.load_preset(URIS[scheme])
    assert (first.horizon, latest.horizon) == (100, 7)
    assert isinstance(latest.rule, keras_l2l.rules.Adam)
    if scheme == "kaggle":
        assert presets.load_preset(f"{URIS[scheme]}/1").horizon == 100


def test_presets_on_hubs_are_taken_where_names_are(hubs):
    uri = URIS["hf"]
    keras_l2l.upload_preset("hf://digits", PRESET)
    sgd = keras_l2l.rules.SGD()
    partition = keras_l2l.rules.Partition([("bias", uri)], sgd)
    optimizer = keras_l2l.LearnedOptimizer(rule=partition)
    inner = optimizer.rule.inner_rules().values()
    assert "CoordinatewiseLSTM" in {type(rule).__name__ for rule in inner}
    assert isinstance(presets.guarded(uri).rule, keras_l2l.rules.Guarded)
    assert keras_l2l.LearnedOptimizer(rule=uri).preset == uri


def test_what_was_downloaded_loads_offline(hubs, monkeypatch):
    keras_l2l.upload_preset(URIS["hf"], PRESET)
    presets.load_preset(URIS["hf"])
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    number = len(hubs.requests)
    assert presets.load_preset(URIS["hf"]).horizon == 100
    assert len(hubs.requests) == number


@pytest.mark.parametrize("scheme", URIS)
def test_a_damaged_preset_is_refused(hubs, scheme):
    keras_l2l.upload_preset(URIS[scheme], PRESET)
    files = repo(hubs, scheme)
    files["meta_params.npz"] = files["meta_params.npz"][:-1] + b"!"
    with pytest.raises(presets.PresetError, match="SHA-256") as error:
        presets.load_preset(URIS[scheme])
    assert URIS[scheme] in str(error.value)


def test_nothing_damaged_is_uploaded(hubs, folder):
    (folder / "meta_params.npz").write_bytes(b"PK")
    with pytest.raises(presets.PresetError, match="SHA-256"):
        keras_l2l.upload_preset(URIS["hf"], folder)
    assert not hubs.requests and not hubs.repos


def test_a_preset_cannot_make_others_be_downloaded(hubs, folder):
    sgd = keras_l2l.rules.SGD()
    rule = keras_l2l.rules.Partition([("bias", sgd)], sgd)
    config = serialization.serialize(rule)
    assert config["config"]["default"] == serialization.serialize(sgd)
    config["config"]["default"] = URIS["hf"]
    forge(folder, config)
    with pytest.raises(presets.PresetError):
        presets.load_preset(folder)
    assert not hubs.requests


def metadata_of(readme):
    """Returns the YAML at the start of a README, and the rest."""
    _, metadata, text = readme.decode().split("---\n", 2)
    return yaml.safe_load(metadata), text


def test_a_readme_is_written_from_the_card(hubs):
    keras_l2l.upload_preset(URIS["hf"], "l2l_digits_mlp")
    metadata, text = metadata_of(repo(hubs, "hf")["README.md"])
    assert metadata["library_name"] == "keras_l2l"
    assert metadata["license"] == "apache-2.0"
    assert "learned-optimizer" in metadata["tags"]
    card = json.loads((PRESET / "card.json").read_text())
    for key in ("description", "use_for", "cost", "loses", "limits"):
        assert card[key] in text
    assert f'from_preset("{URIS["hf"]}")' in text
    row = "| l2l_digits_mlp | 100 | adam, tuned for mean loss and final loss"
    assert f"{row} | 0.1 | 0.01821 |" in text


def test_a_readme_without_a_card_claims_no_license(hubs, tmp_path):
    optimizer = keras_l2l.LearnedOptimizer(rule=keras_l2l.rules.Adam())
    keras_l2l.upload_preset("hf://digits", optimizer)
    assert {*repo(hubs, "hf")} == FILES | {"README.md"}
    metadata, text = metadata_of(repo(hubs, "hf")["README.md"])
    assert "license" not in metadata and "`Adam`" in text
    # The user's name is there, though the URI had none.
    assert f'from_preset("{URIS["hf"]}")' in text


@pytest.mark.parametrize("scheme", URIS)
def test_an_optimizer_of_a_preset_has_its_card(hubs, scheme):
    for preset in ("l2l_digits_mlp", URIS[scheme]):
        optimizer = keras_l2l.LearnedOptimizer.from_preset(preset)
        assert keras_l2l.upload_preset(URIS[scheme], optimizer) == URIS[scheme]
    version = 2 if scheme == "kaggle" else 1
    found = repo(hubs, scheme, version)
    assert found["card.json"] == (PRESET / "card.json").read_bytes()
    metadata, _ = metadata_of(found["README.md"])
    assert metadata["license"] == "apache-2.0"


def test_an_optimizer_of_a_folder_has_no_card_of_another(
    hubs, folder, tmp_path, monkeypatch
):
    mine = tmp_path / "mine" / "preset"
    adam = keras_l2l.rules.Adam()
    presets.save_preset(adam, adam.init_meta_params(0), mine)
    optimizer = keras_l2l.LearnedOptimizer.from_preset(mine)
    assert optimizer.preset == folder.name
    # Where there is no such folder, and where there is another.
    for here in (mine, folder.parent):
        monkeypatch.chdir(here)
        keras_l2l.upload_preset(URIS["hf"], optimizer)
        assert {*repo(hubs, "hf")} == FILES | {"README.md"}


def test_a_damaged_card_is_named(hubs, folder):
    (folder / "card.json").write_text("{")
    with pytest.raises(presets.PresetError, match="card.json.*JSON.*Fix") as e:
        keras_l2l.upload_preset(URIS["hf"], folder)
    assert str(folder) in str(e.value) and not hubs.requests


@pytest.mark.parametrize("scheme", URIS)
def test_a_page_of_an_earlier_preset_is_replaced(hubs, scheme):
    keras_l2l.upload_preset(URIS[scheme], "l2l_digits_mlp")
    own = keras_l2l.LearnedOptimizer(rule=keras_l2l.rules.Adam())
    keras_l2l.upload_preset(URIS[scheme], own)
    found = repo(hubs, scheme, version=2)
    assert {*found} == FILES | {"README.md"}
    metadata, text = metadata_of(found["README.md"])
    assert "license" not in metadata
    assert "`Adam`" in text and "LSTM" not in text


@pytest.mark.parametrize("scheme", URIS)
def test_a_readme_of_the_user_is_kept(hubs, folder, scheme):
    keras_l2l.upload_preset(URIS[scheme], folder)
    page = repo(hubs, scheme)["README.md"]
    for edited in (b"---\n---\nwritten there", page.replace(b"#", b"# The")):
        # On Kaggle each version is a repository.
        [*hubs.repos.values()][-1]["README.md"] = edited
        keras_l2l.upload_preset(URIS[scheme], folder)
        assert [*hubs.repos.values()][-1]["README.md"] == edited


def test_a_readme_of_the_folder_is_the_page(hubs, folder):
    keras_l2l.upload_preset(URIS["hf"], folder)
    (folder / "README.md").write_text("Plain text, edited here")
    keras_l2l.upload_preset(URIS["hf"], folder)
    assert repo(hubs, "hf")["README.md"].endswith(b"edited here")


@pytest.mark.parametrize(
    "uri",
    [
        *("hf://", "hf://digits", "hf://a/b/c", "hf://a/..", "hf://a b/c"),
        *("hf://ada/-", "kaggle://ada/digits", "kaggle://ada/d/pytorch/mlp"),
        *("kaggle://ada/d/keras/mlp/new", "kaggle://../../keras/x"),
    ],
)
def test_wrong_uris_are_refused_before_any_request(hubs, uri):
    scheme = uri.partition("://")[0]
    with pytest.raises(presets.PresetError, match=f"form {scheme}://") as error:
        presets.load_preset(uri)
    assert uri in str(error.value) and len(str(error.value)) < 500
    assert not hubs.requests


@pytest.mark.parametrize(
    "uri", ["digits", "gs://a/b", "kaggle://ada/d/keras/mlp/1", "hf://-", 3]
)
def test_wrong_uris_of_uploads_are_refused(hubs, uri):
    with pytest.raises(presets.PresetError, match="Received: "):
        keras_l2l.upload_preset(uri, PRESET)
    # The arguments in the wrong order.
    with pytest.raises(presets.PresetError, match="on a hub must be hf://"):
        keras_l2l.upload_preset(PRESET, URIS["hf"])
    with pytest.raises(presets.PresetError, match="must be a LearnedOptim"):
        keras_l2l.upload_preset(URIS["hf"], keras_l2l.rules.Adam())
    assert not hubs.requests


def test_an_unknown_name_tells_of_hubs(hubs):
    with pytest.raises(presets.PresetError, match="hf://{user}/{name} or"):
        presets.load_preset("gs://ada/digits")


@pytest.mark.parametrize("scheme", URIS)
def test_a_preset_that_is_not_there(hubs, scheme):
    with pytest.raises(presets.PresetError, match="404.*log in with") as error:
        presets.load_preset(URIS[scheme])
    assert URIS[scheme] in str(error.value) and len(str(error.value)) < 500


def test_private_and_foreign_presets_need_permission(hubs, monkeypatch):
    keras_l2l.upload_preset(URIS["hf"], PRESET)
    hubs.private.add("ada/digits")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    with pytest.raises(presets.PresetError, match="401.*hf auth login"):
        presets.load_preset(URIS["hf"])
    with pytest.raises(presets.PresetError, match="logged in.*401.*HF_TOKEN"):
        keras_l2l.upload_preset(URIS["hf"], PRESET)
    with pytest.raises(presets.PresetError, match="logged in.*401.*kagglehub"):
        keras_l2l.upload_preset(URIS["kaggle"], PRESET)


@pytest.mark.parametrize("uri", ["hf://bob/x", "kaggle://bob/x/keras/mlp"])
def test_no_permission_to_write(hubs, uri):
    with pytest.raises(presets.PresetError, match="403, Forbidden"):
        keras_l2l.upload_preset(uri, PRESET)


def test_a_repository_of_others_is_no_preset(hubs):
    hubs.repos["ada/digits"] = {"config.json": b"{}", "model.bin": b"big"}
    with pytest.raises(presets.PresetError, match="no meta_params.npz"):
        presets.load_preset(URIS["hf"])
    assert not [r for r in hubs.requests if "model.bin" in r]


def test_a_hub_that_cannot_be_reached(hubs, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for act in (
        lambda: presets.load_preset(URIS["hf"]),
        lambda: keras_l2l.upload_preset(URIS["hf"], PRESET),
    ):
        with pytest.raises(presets.PresetError, match="connection") as error:
            act()
        assert len(str(error.value)) < 500


@pytest.mark.parametrize("scheme", URIS)
def test_a_missing_client_is_named(monkeypatch, scheme):
    package = {"hf": "huggingface_hub", "kaggle": "kagglehub"}[scheme]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        presets.load_preset(URIS[scheme])
    with pytest.raises(ImportError, match=f"pip install {package}"):
        keras_l2l.upload_preset(URIS[scheme], PRESET)
