"""Parts of the newer DETR families: RT-DETRv2, D-FINE, DEIM, DEIMv2."""
