"""Suggestions for unknown keywords and options: other libraries' names, and near misses."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

_NEAR: Final = 0.76  # a `SequenceMatcher.ratio`: one or two letters of a word differ
_SHOWN: Final = 3


class Synonym(NamedTuple):
    """Names that other libraries have for parameters of gpuio.

    Attributes:
        names: The other names, separated by spaces.
        instead: The parameters of gpuio, separated by spaces, each alone or as name=value. The row
            does not apply to a function that lacks one of them.
        reason: An explanation for the message.
    """

    names: str
    instead: str
    reason: str = ""


_TRANSFORMS: Final = (
    "transform transforms augment augmentation augmentations augmenter augmenters augs pipeline "
    "preprocess transform_list preprocessing"
)
# fmt: off
SYNONYMS: Final = (
    # Threads and processes.
    Synonym("num_workers workers num_worker n_workers max_workers num_threads num_thread n_threads "
        "threads nthreads py_num_workers num_parallel_calls num_proc thread_count",
        "preprocess_threads", "CPU threads do the work, there are no worker processes"),
    Synonym("num_workers workers num_threads threads nthreads jobs n_jobs", "num_thread"),
    Synonym("prefetch_factor prefetch prefetch_size prefetch_batches prefetch_queue_depth "
        "buffer_size queue_size queue_depth batches_ahead", "prefetch_buffer",
        "the number of finished batches that may wait"),
    Synonym("pin_memory pin_memory_device persistent_workers multiprocessing_context "
        "worker_init_fn non_blocking in_order", "", "leave it out: batches are made by threads, "
        "and on a GPU they are in its memory already"),
    Synonym("collate_fn", "", "leave it out: a batch is made as one array"),
    Synonym("world_size num_replicas num_shards shard_count n_shards num_nodes rank shard_id "
        "shard_idx shard_index shard_num local_rank global_rank worker_id", "num_parts part_index",
        "which part of the data this process reads"),
    # Epochs and batches.
    Synonym("batchsize batch_sz bs batch", "batch_size"),
    Synonym("drop_last drop_remainder discard_last drop_last_batch", "last_batch='drop'"),
    Synonym("drop_last drop_remainder discard_last drop_last_batch", "last_batch_handle='discard'"),
    Synonym("drop_last drop_remainder discard_last drop_last_batch last_batch last_batch_handle",
        "round_batch=False", "this leaves the last batch short"),
    Synonym("last_batch last_batch_policy pad_last_batch", "last_batch_handle"),
    Synonym("last_batch_handle last_batch_policy pad_last_batch allow_smaller", "last_batch"),
    Synonym("partial_batch keep_last", "last_batch='short'"),
    Synonym("shuffle_buffer shuffle_buffer_size buffer shuffle_size shuffle_chunk initial_fill "
        "random_shuffle shuffle_after_epoch shuffle_files sampler", "shuffle",
        "it shuffles all records, anew in each epoch"),
    Synonym("random_seed rng_seed random_state manual_seed generator", "seed"),
    Synonym("epochs num_epochs n_epochs epoch repeat infinite", "",
        "each pass of a `for` loop is one epoch"),
    # Where the data is.
    Synonym("root image_root img_root image_dir image_folder", "path_root"),
    Synonym("dataset root path paths file files filename filenames file_path file_paths data_dir "
        "data_path data_root input_path rec recs record records rec_path path_rec rec_file "
        "record_file path_record uri url urls image_rec", "path_imgrec"),
    Synonym("dataset root path paths file files filename data_path csv csv_path data_file data",
        "data_csv"),
    Synonym("dataset root path paths file files filename data_path libsvm data_file data",
        "data_libsvm"),
    Synonym("idx idx_path path_idx index index_path path_index index_file", "path_imgidx"),
    Synonym("lst lst_path path_lst list list_path label_file label_list imglist labels label_path",
        "path_imglist"),
    Synonym("num_labels label_size label_dim label_shape n_labels", "label_width"),
    Synonym("bbox bboxes boxes bounding_boxes ltrb bbox_format box_labels", "label_kind='boxes'"),
    Synonym("keypoints landmarks points", "label_kind='points'"),
    Synonym("mask mask_path segmentation masks_path path_masks", "masks"),
    Synonym("num_classes classes one_hot onehot", "", "leave it out: labels come as stored"),
    Synonym("cache cache_folder local_cache cache_path local", "cache_dir"),
    Synonym("skip_errors ignore_errors skip_broken skip_corrupt skip_bad error_policy handler "
        "skip_invalid", "on_error='skip'"),
    # The batch.
    Synonym("image_size img_size image_shape img_shape input_size input_shape output_size "
        "output_shape target_size crop_size crop size img_dim resolution height width image_height "
        "image_width crop_h crop_w", "data_shape", "(channels, height, width) for images"),
    Synonym("channels num_channels color color_mode mode grayscale_input", "data_shape"),
    Synonym("half fp16 use_fp16", "dtype='float16'"),
    Synonym("precision output_dtype output_type data_type", "dtype"),
    Synonym("channels_last memory_format data_format output_layout data_layout tensor_format nhwc",
        "layout='NHWC'"),
    Synonym("gpu gpus gpu_id use_gpu cuda device_type devices backend", "device='cuda:0'"),
    # Augmentation.
    Synonym(_TRANSFORMS, "aug_list", "a list of callables"),
    Synonym(f"{_TRANSFORMS} aug_list auglist",
        "resize rand_crop rand_mirror", "each augmentation is a keyword of its own, also "
        "brightness, mean_r, std_r and so on"),
    Synonym(f"{_TRANSFORMS} aug_list auglist",
        "resize rand_crop_prob rand_mirror_prob", "each augmentation is a keyword of its own, also "
        "mean_r, std_r and so on"),
    Synonym("mean means mean_rgb rgb_mean image_mean mean_value mean_values img_mean pixel_mean",
        "mean_r mean_g mean_b", "in levels from 0 to 255: 123.675, 116.28 and 103.53 for 0.485, "
        "0.456 and 0.406"),
    Synonym("std stds std_rgb rgb_std image_std std_value std_values img_std stddev pixel_std",
        "std_r std_g std_b", "in levels from 0 to 255: 58.395, 57.12 and 57.375 for 0.229, 0.224 "
        "and 0.225"),
    Synonym("normalize normalization", "mean_r std_r scale",
        "with mean_g, mean_b, std_g and std_b, in levels from 0 to 255"),
    Synonym("normalize normalization mean_r mean_rgb", "mean std"),
    Synonym("rescale scale_factor to_float", "scale"),
    Synonym("random_resize_crop rand_resized_crop rand_resize rrc random_sized_crop rand_resized "
        "random_resized", "random_resized_crop"),
    Synonym("random_resized_crop rrc random_sized_crop rand_resized_crop", "rand_resize rand_crop"),
    Synonym("random_crop randcrop rand_cropping", "rand_crop"),
    Synonym("random_crop randcrop", "rand_crop_prob"),
    Synonym("center_crop centre_crop", "rand_crop=False", "it crops in the middle"),
    Synonym("resize_size resize_shorter resize_short shorter_edge resize_edge smaller_edge "
        "short_edge min_size", "resize", "the length of the shorter edge, in pixels"),
    Synonym("horizontal_flip hflip random_horizontal_flip random_flip rand_flip flip fliplr "
        "flip_lr random_mirror mirror_prob hflip_prob flip_prob rand_hflip random_flip_horizontal",
        "rand_mirror"),
    Synonym("horizontal_flip hflip random_horizontal_flip random_flip rand_flip flip fliplr "
        "flip_lr random_mirror mirror_prob hflip_prob flip_prob rand_mirror", "rand_mirror_prob"),
    Synonym("rotation rotate_angle degrees random_rotation rand_rotate max_rotation rotation_range "
        "angle", "max_rotate_angle"),
    Synonym("shear shear_range random_shear", "max_shear_ratio"),
    Synonym("scale_range area_range area min_area max_area", "min_random_area max_random_area"),
    Synonym("ratio ratio_range aspect_ratio aspect_ratio_range",
        "min_aspect_ratio max_aspect_ratio"),
    Synonym("color_jitter colour_jitter colorjitter jitter", "brightness contrast saturation "
        "random_h"),
    Synonym("color_jitter colour_jitter colorjitter jitter", "brightness contrast saturation hue"),
    Synonym("hue random_hue hue_range", "random_h", "in units of 2 degrees"),
    Synonym("hue random_h random_hue", "max_random_hue random_hue_prob"),
    Synonym("random_brightness rand_brightness", "brightness"),
    Synonym("random_contrast rand_contrast", "contrast"),
    Synonym("random_saturation rand_saturation", "saturation"),
    Synonym("random_h", "hue"),
    Synonym("gray grey grayscale greyscale random_grayscale random_gray", "rand_gray"),
    Synonym("lighting pca pca_lighting", "pca_noise"),
    Synonym("interpolation interp interp_method interp_type interpolation_mode", "inter_method"),
    Synonym("padding pad_size border", "pad"),
    Synonym("fill fillcolor pad_value fill_color", "fill_value"),
)
# fmt: on


def suggestion(
    name: str, known: Collection[str], spell: Callable[[str, str], str] | None = None
) -> str:
    """What to use instead of an unknown name: a text to append to a message, or "".

    Args:
        name: The unknown name.
        known: The names that exist.
        spell: Formats a parameter and its value (or ""); None formats as Python does.
    """
    write = spell or (lambda name, value: f"{name}={value}" if value else name)
    for synonym in SYNONYMS:
        if name.lower() in synonym.names.split():
            pairs = [item.partition("=")[::2] for item in synonym.instead.split()]
            if all(parameter in known for parameter, _ in pairs):
                return "; " + _advice([write(*pair) for pair in pairs], synonym.reason)
    near = difflib.get_close_matches(name, known, n=1, cutoff=_NEAR) or _containing(name, known)
    return f"; {_question([write(other, '') for other in near])}" if near else ""


def _advice(instead: list[str], reason: str) -> str:
    if not reason and len(instead) == 1 and "=" not in instead[0]:
        return _question(instead)
    use = [f"use {_listed(instead, 'and')}"] if instead else []
    return ": ".join(use + ([reason] if reason else []))


def _question(names: list[str]) -> str:
    return f"did you mean {_listed([repr(name) for name in names], 'or')}?"


def _containing(name: str, known: Collection[str]) -> list[str]:
    """The names that contain all words of `name`, if they are few."""
    words = set(name.split("_"))
    found = [other for other in known if words <= set(other.split("_"))]
    return found if len(found) <= _SHOWN else []


def _listed(items: list[str], word: str) -> str:
    *rest, last = items
    return f"{', '.join(rest)} {word} {last}" if rest else last
