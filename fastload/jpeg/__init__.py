"""JPEG files: headers, seek index and partial decoding. Knows bytes, knows nothing of data sets.

For everybody::

    from fastload.jpeg.header import read_header              # JpegHeader: sizes, sampling, what our decoder takes
    from fastload.jpeg.decoder import build_index, decode     # bytes -> seek index; bytes -> pixels of a rectangle
    from fastload.jpeg.seek_file import SeekFile, write_seek_file   # the indexes of a shard

From JPEG to JPEG, without loss: fastload.jpeg.recode (restart tiles, parts that are decoded elsewhere).

For an engine, everything about one image in one call without the interpreter's lock::

    from fastload.jpeg.decoder import warm_up                 # compiles, once on a machine
    from fastload.jpeg.rectangle import decode_rectangle      # a kernel, to be called from kernels or from Python
    from fastload.jpeg.workspace import new_workspace         # int64 array, one for each thread
    from fastload.jpeg import status                          # OK, is_unsupported(), describe()

    status = decode_rectangle(data, length, index, top, left, height, width, out, stride, workspace)

    data       uint8[::1], holds the file in its first ``length`` bytes (at most the workspace's max_bytes)
    index      uint8[::1], what build_index made of this very file; an empty array if there is none
    top, left, height, width   int64, the rectangle in pixels of the image as stored
    out        uint8[::1], takes RGB rows of 3 x width bytes, each ``stride`` bytes after the one before; no byte that
               is not a pixel of the rectangle is written
    workspace  int64[::1] from new_workspace(max_width, max_bytes)

The answer is status.OK, or the reason why libjpeg-turbo has to decode this image (``out`` may hold anything then).
Nothing outside ``out`` and ``workspace`` is ever written, nothing outside the arguments read, whatever the bytes are.
The pixels are libjpeg-turbo's, bit for bit (islow transform, "fancy" upsampling).

The journey of a byte: header -> tables -> bits -> entropy (index or sequence say where to begin) -> idct -> color;
pixels and rectangle hold the stages together, workspace is the memory that all of them work in.

Why there is no faster decoding that is merely close. 393 ImageNet files, microseconds an image: the tables of a random
crop take 17, entropy decoding 180, the transform 56, colour 30, resizing to 224 (160) takes 75 (55), and the whole
pipeline 393 for training at 224, 378 at 160, 498 for Resize(256) + CenterCrop(224). What could be left out of that:

- Planes resized before colour conversion, no interpolated chroma (a working prototype): 53 us (at 160: 30, evaluation:
  39) less for files with 4:2:0, a fifth of ImageNet's, nothing for 4:4:4, most of the others: 3, 1 and 2 %. Against the
  exact pixels 0.3 grey levels on average, 34 at most.
- A transform of 4 x 4, 2 x 2 or 1 x 1 where the crop is that much larger (3, 18 and 5 % of the crops): if it took its
  share of the time exactly, 2, 11 and 3 %; 0.8 to 1.5 grey levels on those crops, 57 at most (libjpeg-turbo's).
- A transform of any n x n (47, 76 and 90 % of the crops): in the same way at most 10, 17 and 12 %; 1.3 grey levels.

Entropy decoding, half of it all, is left as it is by each of them. The bar was 15 % in fact; only the last comes near,
at 160 pixels and before its own costs. For photographs of many megapixels the sums would be others.
"""
