"""A SavedModel that can run other operations than ours is refused before it is loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tensorflow.core.protobuf import saved_model_pb2

from models.retrieval.retriever import tf
from models.retrieval.serving.allowed_operations import check_operations
from models.retrieval.serving.saved_model import SavedModel

Body = Callable[[tf.Tensor], tf.Tensor]
_TEXT = tf.TensorSpec([], tf.string, name="text")


def write(text: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([tf.io.write_file("/tmp/never", text)]):
        return tf.identity(text)


def save(text: tf.Tensor) -> tf.Tensor:
    tf.raw_ops.SaveV2(
        prefix="/tmp/never", tensor_names=["a"], shape_and_slices=[""], tensors=[text]
    )
    return text


ATTACKS: dict[str, tuple[str, Body]] = {
    "writes": ("WriteFile", write),
    "reads": ("ReadFile", tf.io.read_file),
    "saves": ("SaveV2", save),
    "prints": ("PrintV2", lambda text: [tf.print(text), text][1]),
    "runs Python": (
        "EagerPyFunc",
        lambda text: tf.ensure_shape(tf.py_function(lambda it: it, [text], tf.string), []),
    ),
    "in a function": ("WriteFile", lambda text: tf.function(write)(text)),
    "in a branch": (
        "WriteFile",
        lambda text: tf.cond(text == "now", lambda: write(text), lambda: text),
    ),
    "in a loop": (
        "While",  # of which the first is named
        lambda text: tf.while_loop(lambda it: it == "now", lambda it: [write(it)], [text])[0],
    ),
}


def export(folder: Path, body: Body, **more: object) -> str:
    module = tf.Module()
    module.answer = tf.function(body, input_signature=[_TEXT])
    for name, value in more.items():
        setattr(module, name, value)
    tf.saved_model.save(module, str(folder), signatures={"answer": module.answer})
    return str(folder)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_model_with_another_operation_is_refused(tmp_path: Path, attack: str) -> None:
    operation, body = ATTACKS[attack]
    folder = export(tmp_path / "model", body)
    with pytest.raises(ValueError, match=f"holds the operation {operation}, which no model of"):
        SavedModel(folder)


def test_a_model_that_reads_a_file_while_it_is_loaded_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("a\n")
    index = tf.lookup.TextFileIndex
    lines = tf.lookup.TextFileInitializer(
        str(tmp_path / "lines"), tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER
    )
    folder = export(tmp_path / "model", tf.identity, table=tf.lookup.StaticHashTable(lines, 0))
    with pytest.raises(ValueError, match="holds the operation InitializeTableFromTextFileV2"):
        SavedModel(folder)


def test_a_model_of_tensorflow_1_is_refused(tmp_path: Path) -> None:
    """Its top graph would run while it is loaded."""
    folder = export(tmp_path / "model", tf.identity)
    path = Path(folder) / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    proto.meta_graphs[0].ClearField("object_graph_def")
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match="is no SavedModel of this pipeline"):
        check_operations(folder)
