"""Evaluate networks on data sets, and compare their correctness with the recorded one."""

from heldout_torch.evaluation.evaluate import evaluate
from heldout_torch.evaluation.precision import Precision
from heldout_torch.evaluation.predict import predict
from heldout_torch.evaluation.result import Evaluation, SplitVerification, Verification
from heldout_torch.evaluation.verify import verify

__all__ = ["Evaluation", "Precision", "SplitVerification", "Verification", "evaluate", "predict", "verify"]
