"""Every kind of stored tensor, for readers that do not know which ones a file holds (an exported program does)."""

from golf.quant.factored import FactoredTensor
from golf.quant.lowrank import CorrectedTensor
from golf.quant.rtn import QuantisedTensor
from golf.quant.state import PlainTensor
from golf.quant.ternary_packing import PackedTernaryTensor
from golf.quant.trellis import TrellisTensor

ALL_STORED_KINDS = (PlainTensor, QuantisedTensor, CorrectedTensor, FactoredTensor, TrellisTensor, PackedTernaryTensor)
