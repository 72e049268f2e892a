"""Names of rows that public RT-DETR forks use and this package does not have: where each comes from, as far as known.

For the message about an unknown module alone. Counted on 80 forks, November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_CUDA = "it needs a CUDA operator, which this package does not build"
_RECENT = "an addition of 2026 to a pack, rarely used so far"

PUBLISHED: Mapping[str, str] = MappingProxyType(
    {
        "SimpleStem": f"Mamba-YOLO (AAAI 2025, HZAI-ZJNU/Mamba-YOLO); {_CUDA}",
        "VisionClueMerge": f"Mamba-YOLO (AAAI 2025, HZAI-ZJNU/Mamba-YOLO); {_CUDA}",
        "XSSBlock": f"Mamba-YOLO (AAAI 2025, HZAI-ZJNU/Mamba-YOLO); {_CUDA}",
        "C2f_VSS": f"VMamba (NeurIPS 2024, MzeroMiko/VMamba); {_CUDA}",
        "C2f_DCNv3": f"InternImage (CVPR 2023, OpenGVLab/InternImage); {_CUDA}; C2f_DCNv2 runs here",
        "C2f_DCNv4": f"DCNv4 (CVPR 2024, OpenGVLab/DCNv4); {_CUDA}; C2f_DCNv2 runs here",
        "CFC_CRB": "CSFCN (TIP 2023, kaigelee/CSFCN)",
        "SFC_G2": "CSFCN (TIP 2023, kaigelee/CSFCN)",
        "SDFM": "PSFusion (Information Fusion 2023, Linfeng-Tang/PSFusion)",
        "PSFM": "PSFusion (Information Fusion 2023, Linfeng-Tang/PSFusion)",
        "PyramidContextExtraction": "CGRSeg (ECCV 2024, nizhenliang/CGRSeg)",
        "RCM": "CGRSeg (ECCV 2024, nizhenliang/CGRSeg)",
        "DynamicInterpolationFusion": "CGRSeg (ECCV 2024, nizhenliang/CGRSeg)",
        "FuseBlockMulti": "CGRSeg (ECCV 2024, nizhenliang/CGRSeg)",
        "DASI": "HCF-Net (2024, zhengshuchen/HCFNet)",
        "C2f_PPA": "HCF-Net (2024, zhengshuchen/HCFNet)",
        "AKConv": "AKConv (2023, CV-ZhangXin/AKConv)",
        "LDConv": "AKConv (2023, CV-ZhangXin/AKConv)",
        "IFM": "Gold-YOLO (NeurIPS 2023, huawei-noah/Efficient-Computing)",
        "InjectionMultiSum_Auto_pool": "Gold-YOLO (NeurIPS 2023, huawei-noah/Efficient-Computing)",
        "C2f_FADC": "FADC (CVPR 2024, Linwei-Chen/FADC)",
        "HyperACE": "YOLOv13 (iMoonLab/yolov13)",
        "C2f_MambaOut": "MambaOut (CVPR 2025, yuweihao/MambaOut)",
        "MFM": "DCMPNet (CVPR 2024, zhoushen1/DCMPNet)",
        "WFU": "WFEN (ACM MM 2024, PRIS-CV/WFEN)",
        "C2f_RFAConv": "RFAConv (2023, Liuchen1997/RFAConv); RFAConv is here, also as CSP, [c2, block=RFAConv]",
        "C2f_RFCAConv": "RFAConv (2023, Liuchen1997/RFAConv); RFCAConv is here, also as CSP, [c2, block=RFCAConv]",
        "C2f_RFCBAMConv": "RFAConv (2023); RFCBAMConv is here, also as CSP, [c2, block=RFCBAMConv]",
        "C2f_KAN": "a C2f of KAN layers, no paper is known",
        "HAFB": "a fusion block of 2024, no repository is known",
        "InjectionMultiSum": "Gold-YOLO (NeurIPS 2023, huawei-noah/Efficient-Computing)",
        "PPA": "HCF-Net (2024, zhengshuchen/HCFNet)",
        "CSFCN": "CSFCN (TIP 2023, kaigelee/CSFCN)",
        "FADC": "FADC (CVPR 2024, Linwei-Chen/FADC)",
        "ChannelTransformer": "a row of packs that returns several maps, no repository is known",
        "eca_layer": "ECA-Net (CVPR 2020, BangguWu/ECANet); here ECA",
        **dict.fromkeys(("BinaryAttention", "CirculantAttention", "PFGNet", "FourierSR", "A3FPN"), _RECENT),
        **dict.fromkeys(("DyT", "Derf", "SEFN", "EDFFN", "MixerCSeg"), _RECENT),
        "DEGConv": "MixerCSeg (2026)",
        "TransMixer": "MixerCSeg (2026)",
        "LFP": "NS-FPN (2026)",
        "SFSFusion": "NS-FPN (2026)",
        "SimSPPF": "copies differ from YOLOv6's; here SPPF, with activation: nn.ReLU() as YOLOv6 has it",
        "BottleNeck": "ResNet; it stands inside of a row: Blocks, [64, BottleNeck, 3, 2, relu]",
        "BiLevelRoutingAttention": "BiFormer (CVPR 2023, rayleizhu/BiFormer); here BiLevelRoutingAttention_nchw",
    }
)
"""Name -> paper and repository."""


BACKBONES: Mapping[str, str] = MappingProxyType(
    {
        "vanillanet": "VanillaNet",
        "lsknet": "LSKNet",
        "cswin": "CSWin Transformer (CVPR 2022)",
        "unireplknet": "UniRepLKNet (CVPR 2024, AILab-CVC/UniRepLKNet)",
        "transnext": "TransNeXt (CVPR 2024, DaiShiResearch/TransNeXt)",
        "rmt": "RMT",
        "pkinet": "PKINet (CVPR 2024, PKINet/PKINet)",
        "overlock": "OverLoCK",
        "lsnet": "LSNet",
    }
)
"""First part of the name of a one-row backbone that timm does not have -> network."""


def origin_of_name(name: str) -> str:
    """One clause about a name, '' when it is not in the census."""
    if source := PUBLISHED.get(name):
        return f"known from forks: {source}"
    network = BACKBONES.get(name.lower().partition("_")[0])
    return f"known from forks: {network}, a backbone that timm does not have" if network else ""
