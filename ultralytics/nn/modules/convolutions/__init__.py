"""Published convolution blocks, one kin a module; importing this package registers all of them."""

from __future__ import annotations

from ultralytics.nn.modules.convolutions.aggregation import (
    RGCSPELAN,
    HyperComputeModule,
    MANet,
)
from ultralytics.nn.modules.convolutions.deformable_conv import (
    C2f_DCNv2,
    DCNv2,
)
from ultralytics.nn.modules.convolutions.difference_conv import (
    C2f_DEConv,
    DEConv,
)
from ultralytics.nn.modules.convolutions.dilated_reparam import (
    DRBC3,
    C2f_DRB,
    C2f_UniRepLKNetBlock,
    DilatedReparamBlock,
    UniRepLKNetBlock,
)
from ultralytics.nn.modules.convolutions.diverse_branch import (
    DBBC3,
    C2f_DBB,
    DiverseBranchBlock,
)
from ultralytics.nn.modules.convolutions.dwr import (
    DWR,
    DWRC3,
    C2f_DWR,
)
from ultralytics.nn.modules.convolutions.faster import (
    C2f_Faster,
    C2f_Faster_CGLU,
    C2f_Faster_EMA,
    Faster_Block,
    Faster_Block_CGLU,
    Faster_Block_EMA,
    Partial_conv3,
)
from ultralytics.nn.modules.convolutions.glu import (
    ConvolutionalGLU,
)
from ultralytics.nn.modules.convolutions.irmb import (
    C2f_iRMB,
    C2f_iRMB_Cascaded,
    iRMB,
    iRMB_Cascaded,
)
from ultralytics.nn.modules.convolutions.pki import (
    CAA,
    C2f_PKIModule,
    PKIModule,
)
from ultralytics.nn.modules.convolutions.receptive_field import (
    RFAConv,
    RFCAConv,
    RFCBAMConv,
)
from ultralytics.nn.modules.convolutions.snake import (
    C2f_DySnakeConv,
    DSConv,
    DySnakeConv,
    DySnakeConvFrozen,
)
from ultralytics.nn.modules.convolutions.star import (
    C2f_Star,
    C2f_Star_CAA,
    Star_Block,
    Star_Block_CAA,
)
from ultralytics.nn.modules.convolutions.wavelet_conv import (
    WTConv2d,
)

__all__ = (
    "CAA",
    "DBBC3",
    "DRBC3",
    "DWR",
    "DWRC3",
    "RGCSPELAN",
    "C2f_DBB",
    "C2f_DCNv2",
    "C2f_DEConv",
    "C2f_DRB",
    "C2f_DWR",
    "C2f_DySnakeConv",
    "C2f_Faster",
    "C2f_Faster_CGLU",
    "C2f_Faster_EMA",
    "C2f_PKIModule",
    "C2f_Star",
    "C2f_Star_CAA",
    "C2f_UniRepLKNetBlock",
    "C2f_iRMB",
    "C2f_iRMB_Cascaded",
    "ConvolutionalGLU",
    "DCNv2",
    "DEConv",
    "DSConv",
    "DilatedReparamBlock",
    "DiverseBranchBlock",
    "DySnakeConv",
    "DySnakeConvFrozen",
    "Faster_Block",
    "Faster_Block_CGLU",
    "Faster_Block_EMA",
    "HyperComputeModule",
    "MANet",
    "PKIModule",
    "Partial_conv3",
    "RFAConv",
    "RFCAConv",
    "RFCBAMConv",
    "Star_Block",
    "Star_Block_CAA",
    "UniRepLKNetBlock",
    "WTConv2d",
    "iRMB",
    "iRMB_Cascaded",
)
