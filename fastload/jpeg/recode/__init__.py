"""JPEG to JPEG without loss: restart tiles, and the parts that can be cut from such files without decoding.

    from fastload.jpeg.recode.tiles import retile     # bytes -> bytes: baseline, restart tiles, the same coefficients
    from fastload.jpeg.recode.part import part_of     # a rectangle -> the JPEG of the tiles that it needs

``part_of`` is for engines that decode elsewhere, on a GPU: a random crop takes 40% of the bytes and pixels of an image.
The decoder of the CPU engine needs none of this, it has seek indexes.

The journey of a file: coefficients (scan by scan; geometry says where blocks lie) -> tiles -> encode, huffman.
"""
