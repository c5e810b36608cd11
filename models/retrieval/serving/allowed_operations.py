"""The TensorFlow operations that a SavedModel of ours may run.

A SavedModel is a program. Some operations read and write files, or run Python, when it is loaded or
called. So a SavedModel that can run other operations than these is neither exported nor loaded.
Add one here if a signature needs it and it reaches nothing but its inputs.
"""

from collections.abc import Iterator
from typing import Any

from tensorflow.python.saved_model import loader_impl

_NAMES = """
    AddV2 All Any AsString Assert BatchMatMulV2 BiasAdd Bitcast BitwiseXor BroadcastTo Cast ConcatV2
    Const Cumsum DivNoNan EnsureShape Equal Erfc Exp ExpandDims Fill FloorDiv GatherV2 Greater
    GreaterEqual HashTableV2 Identity If IsFinite Less Log LogicalAnd LookupTableFindV2
    LookupTableImportV2 MatMul Max Maximum Mean Min Minimum Mul Neg NoOp OneHot OnesLike Pack Pad
    PadV2 PartitionedCall Prod RaggedRange RaggedTensorToTensor Range ReadVariableOp RealDiv Reshape
    ResourceGather ResourceGatherNd Rsqrt SelectV2 Shape Slice Softmax Split Sqrt SquaredDifference
    Squeeze StatefulPartitionedCall StatelessIf StatelessWhile StopGradient StridedSlice
    StringToHashBucketFast Sub Sum TensorListFromTensor TensorListGetItem TensorListReserve
    TensorListSetItem TensorListStack TensorScatterUpdate Tile TopKV2 Transpose Unpack
    UnsortedSegmentMax UnsortedSegmentSum Where ZerosLike
"""
OPERATIONS = frozenset(_NAMES.split())


def check_operations(path: str) -> None:
    """Raise ValueError if the SavedModel in a folder can run an operation outside OPERATIONS."""
    saved = loader_impl.parse_saved_model(path)  # as tf.saved_model.load, which reads three formats
    graphs = saved.meta_graphs
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        raise ValueError(
            f"{path} is no SavedModel of this pipeline; run `python -m pipelines.train_retrieval`"
        )
    if others := sorted(_operations(graphs[0]) - OPERATIONS):
        raise ValueError(
            f"{path} holds the operation {others[0]}, which no model of this pipeline needs; run "
            "`python -m pipelines.train_retrieval`, and find out who changed the model"
        )


def _operations(graph: Any) -> set[str]:
    """Return the operations of all functions that loading or calling a SavedModel can reach.

    Its top graph and its functions to save weights are for TensorFlow 1 and for saving; plain
    loading runs neither.
    """
    functions = {each.signature.name: each for each in graph.graph_def.library.function}
    todo, seen, found = [*graph.object_graph_def.concrete_functions], set[str](), set[str]()
    while todo:
        name = todo.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in functions[name].node_def:
            if node.op not in functions:  # an operation may be a call of a function by its name
                found.add(node.op)
            todo += [node.op, *_called(node)]
    return found


def _called(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        yield value.func.name
        yield from (each.name for each in value.list.func)
