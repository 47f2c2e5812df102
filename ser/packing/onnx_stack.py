"""A fitted stack as an ONNX graph, written node by node.

The graph reads the outputs of the heads' graphs and returns what `FittedStack.predict` returns. It
computes in float64 as the stack does, and trees compare float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ser.corpus.errors import UserError
from ser.stack.attributes import MeanAttributes
from ser.stack.folds import FoldedClassifier
from ser.stack.forest import Forest
from ser.stack.linear import Logistic, MetaSoup
from ser.stack.model import FittedStack
from ser.stack.offsets import TINY
from ser.stack.pools import LogPool
from ser.stack.rules import Majority, MeanLogits, MeanProba, TopK, WeightedMean
from ser.stack.trees import Trees

OPSETS = {"": 18, "ai.onnx.ml": 3}
IR_VERSION = 8  # that of opset 18: older runtimes read it too
Widths = Sequence[tuple[str, int]]  # the name of a head, and how many numbers it gives


@dataclass
class Nodes:
    """The nodes and constants of a graph, in the order of their computation."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(
        self,
        kind: str,
        *inputs: str | np.ndarray,
        output: str = "",
        domain: str = "",
        **options: Any,
    ) -> str:
        """Add a node; an array among its inputs becomes a constant. Return its output's name."""
        names = [x if isinstance(x, str) else self._constant(x) for x in inputs]
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [output], output, domain=domain, **options))
        return output

    def linear(self, values: str, coefficient: np.ndarray, intercept: np.ndarray) -> str:
        """Return the linear map of `(rows, dim)` by `(outputs, dim)` and `(outputs,)`, float64."""
        wide = self.add("Cast", values, to=TensorProto.DOUBLE)
        return self.add("Add", self.add("MatMul", wide, coefficient.T), intercept)

    def softmax(self, values: str) -> str:
        """Return the softmax over the last axis."""
        return self.add("Softmax", values, axis=-1)

    def log(self, probability: str) -> str:
        """Return the logarithm of a probability that is at least `TINY`."""
        return self.add("Log", self.add("Max", probability, np.array(TINY)))

    def trees(self, trees: Trees, values: str) -> str:
        """Return the mean shares of the leaves that float32 `(rows, dim)` reach, float64."""
        own = np.arange(len(trees.feature))
        leaf = trees.children[:, 0] == own
        tree = np.searchsorted(trees.roots, own, side="right") - 1
        node = own - trees.roots[tree]  # every tree numbers its own nodes
        children = np.where(leaf[:, None], 0, node[trees.children])
        row, target = np.nonzero(trees.share)
        ensemble = self.add(
            "TreeEnsembleRegressor",
            values,
            domain="ai.onnx.ml",
            aggregate_function="AVERAGE",
            n_targets=trees.share.shape[1],
            nodes_treeids=tree.tolist(),
            nodes_nodeids=node.tolist(),
            nodes_featureids=trees.feature.tolist(),
            nodes_values=np.where(leaf, 0, trees.threshold).tolist(),
            nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
            nodes_truenodeids=children[:, 0].tolist(),
            nodes_falsenodeids=children[:, 1].tolist(),
            target_treeids=tree[row].tolist(),
            target_nodeids=node[row].tolist(),
            target_ids=target.tolist(),
            target_weights=trees.share[row, target].tolist(),
        )
        return self.add("Cast", ensemble, to=TensorProto.DOUBLE)

    def _constant(self, values: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


@dataclass
class ClassNodes:
    """The nodes of a stack's class; `logits` and `ratings` name float32 `(rows, …)`."""

    nodes: Nodes
    classes: int
    logits: str
    ratings: str | None

    def by_head(self) -> str:
        """Return the logits as float64 `(rows, heads, classes)`."""
        logits = self.nodes.add("Cast", self.logits, to=TensorProto.DOUBLE)
        return self.nodes.add("Reshape", logits, np.array([0, -1, self.classes]))

    def probability(self, classifier: Any) -> str:
        """Return a classifier's probabilities; raises `UserError` for one without a graph."""
        match classifier:
            case MetaSoup():
                return self._member(classifier.soup_, self._inputs(classifier))
            case FoldedClassifier():
                inputs = self._inputs(classifier)
                members = [self._member(member, inputs) for member in classifier.members_]
                total = self.nodes.add("Sum", *members)
                return self.nodes.add("Div", total, np.array(float(len(members))))
        return self._rule(classifier)

    def votes(self, classifier: Majority | TopK) -> tuple[str, str]:
        """Return the shares of votes, and the chosen class: of tied ones the more probable."""
        nodes, logits = self.nodes, self.by_head()
        if isinstance(classifier, TopK):
            logits = nodes.add("Gather", logits, classifier.heads_, axis=1)
        first = nodes.add("ArgMax", logits, axis=2, keepdims=1)
        votes = nodes.add("Equal", first, np.arange(self.classes))
        shares = self._mean(nodes.add("Cast", votes, to=TensorProto.DOUBLE))
        most = nodes.add("ReduceMax", shares, np.array([1]), keepdims=1)
        probability = self._mean(nodes.softmax(logits))
        tied = nodes.add("Where", nodes.add("Equal", shares, most), probability, np.array(-1.0))
        return shares, nodes.add("ArgMax", tied, axis=1, keepdims=0)

    def _rule(self, rule: object) -> str:
        """Return the probabilities of a rule that averages logits or probabilities."""
        match rule:
            case LogPool():
                return self.nodes.softmax(self._weighted(self.by_head(), rule.weights_))
            case MeanLogits():
                return self.nodes.softmax(self._mean(self.by_head()))
            case WeightedMean():
                return self._weighted(self.nodes.softmax(self.by_head()), rule.weights_)
            case MeanProba():
                return self._mean(self.nodes.softmax(self.by_head()))
            case TopK():
                selected = self.nodes.add("Gather", self.by_head(), rule.heads_, axis=1)
                return self._mean(self.nodes.softmax(selected))
        raise _without_graph(rule)

    def _mean(self, values: str) -> str:
        """Return the mean over the heads of `(rows, heads, classes)`."""
        return self.nodes.add("ReduceMean", values, np.array([1]), keepdims=0)

    def _weighted(self, values: str, weights: np.ndarray) -> str:
        """Return the sum over the heads of `(rows, heads, classes)`, weighted."""
        product = self.nodes.add("Mul", values, weights[:, None])
        return self.nodes.add("ReduceSum", product, np.array([1]), keepdims=0)

    def _inputs(self, classifier: FoldedClassifier) -> str:
        """Return what the members of a classifier read, float32 `(rows, width)`."""
        parts = [] if classifier.input == "probabilities" else [self.logits]
        if classifier.input != "logits":
            probability = self.nodes.softmax(self.by_head())
            flat = self.nodes.add("Reshape", probability, np.array([0, -1]))
            parts.append(self.nodes.add("Cast", flat, to=TensorProto.FLOAT))
        if classifier.extra and self.ratings is not None:
            parts.append(self.ratings)
        return self.nodes.add("Concat", *parts, axis=1)

    def _member(self, member: Any, inputs: str) -> str:
        match member:
            case Forest():
                return self.nodes.trees(member.trees_, inputs)
            case Logistic():
                logits = self.nodes.linear(inputs, member.coef_, member.intercept_)
                return self.nodes.softmax(logits)
        raise _without_graph(member)


def _without_graph(classifier: object) -> UserError:
    return UserError(
        f"the stack: its {type(classifier).__name__} has no ONNX graph; use the run or its bundle, "
        "or a stack of another model."
    )


def stack_graph(
    stack: FittedStack, classes: int, classifiers: Sequence[str], rated: Widths
) -> onnx.ModelProto:
    """Return the graph of a stack.

    Args:
        stack: the fitted stack.
        classes: how many classes there are.
        classifiers: the heads with logits, in the order of the stack's columns.
        rated: the heads with attributes, and how many each has.

    Its inputs are `<head>.logits` and `<head>.attributes`, float32; its outputs `emotion` int64
    `(batch,)`, an index of the classes, `probabilities` and `attributes` float32. Raises
    `UserError` for a model that has no graph.
    """
    nodes = Nodes()
    logits = [(f"{name}.logits", classes) for name in classifiers]
    ratings = [(f"{name}.attributes", width) for name, width in rated]
    read = {
        kind: nodes.add("Concat", *(name for name, _ in inputs), axis=1)
        for kind, inputs in (("logits", logits), ("ratings", ratings))
        if inputs
    }
    outputs = []
    if stack.classifier is not None:
        of_class = ClassNodes(nodes, classes, read["logits"], read.get("ratings"))
        emotion, probability = _chosen(stack, of_class)
        nodes.add("Identity", emotion, output="emotion")
        nodes.add("Cast", probability, output="probabilities", to=TensorProto.FLOAT)
        outputs += [_value("emotion"), _value("probabilities", classes)]
    if stack.regressor is not None:
        coefficient, intercept = _regression(stack.regressor, sum(width for _, width in rated))
        attributes = nodes.linear(read["ratings"], coefficient, intercept)
        nodes.add("Cast", attributes, output="attributes", to=TensorProto.FLOAT)
        outputs.append(_value("attributes", len(intercept)))
    inputs = [_value(name, width) for name, width in (*logits, *ratings)]
    graph = helper.make_graph(nodes.nodes, "stack", inputs, outputs, nodes.constants)
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def _chosen(stack: FittedStack, of_class: ClassNodes) -> tuple[str, str]:
    """Return the chosen class and the probabilities, as `FittedStack.classify` computes them."""
    nodes = of_class.nodes
    if stack.config.votes and isinstance(stack.classifier, Majority | TopK):
        probability, emotion = of_class.votes(stack.classifier)
    else:
        probability = of_class.probability(stack.classifier)
        if stack.offsets is not None:
            shifted = nodes.add("Add", nodes.log(probability), stack.offsets)
            probability = nodes.softmax(shifted)
        emotion = nodes.add("ArgMax", probability, axis=1, keepdims=0)
    if stack.temperature != 1:
        scaled = nodes.add("Div", nodes.log(probability), np.array(stack.temperature))
        probability = nodes.softmax(scaled)
    return emotion, probability


def _regression(regressor: Any, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients `(attributes, columns)` and intercepts; a mean is a linear map too."""
    if not isinstance(regressor, MeanAttributes):
        return regressor.coef_, regressor.intercept_
    coefficient = np.zeros((len(regressor.columns), columns))
    for row, indices in zip(coefficient, regressor.columns, strict=True):
        row[list(indices)] = 1 / len(indices)
    return coefficient, np.zeros(len(coefficient))


def _value(name: str, width: int | None = None) -> onnx.ValueInfoProto:
    """Return the type of an input or output: float32 `(batch, width)`, or int64 `(batch,)`."""
    if width is None:
        return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch"])
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
