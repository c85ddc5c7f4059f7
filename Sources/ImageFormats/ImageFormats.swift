// ImageFormats
