"""A cache of decoded images: pixels that the plan would make anew in every epoch are kept.

Reader, planner, lowering and executor ask one `ImageCache`. Of an image that it has, nothing is
read or decoded: kernels begin with its pixels, where they lie. An image that it does not have is
decoded whole, one more kernel puts it into the cache, and its batch is made of that. So all epochs
run the same kernels on the same pixels. Nothing is removed or moved while anybody uses the cache:
when it is full, the images that are left are read and decoded as without it.
"""
