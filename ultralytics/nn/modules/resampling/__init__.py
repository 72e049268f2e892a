"""Blocks that change the size of a map: downsampling, wavelets, stems, upsampling."""
