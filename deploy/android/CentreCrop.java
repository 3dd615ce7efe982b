// The centre of a picture at the net's size, resized as `keras-resnet predict` does.

package org.example.classifier; // your package

/** Bilinear resizing with antialiasing and a centre crop, in plain Java. */
public final class CentreCrop {
    private CentreCrop() {}

    /**
     * Returns the pixels that the net sees.
     *
     * @param pixels pixels as `Bitmap.getPixels` gives them, row by row
     * @param width width of the picture
     * @param height height of the picture
     * @param toWidth width of the net's input
     * @param toHeight height of the net's input
     * @param cropFraction `preprocess.crop_fraction` of manifest.json
     * @return opaque pixels, row by row
     */
    public static int[] fit(
            int[] pixels, int width, int height, int toWidth, int toHeight, double cropFraction) {
        double scale = Math.max(toHeight / cropFraction / height, toWidth / cropFraction / width);
        double[][] columns = weights(width, scale, toWidth);
        double[][] rows = weights(height, scale, toHeight);
        float[] narrow = new float[height * toWidth * 3];
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < toWidth; x++) {
                double[] column = columns[x];
                double red = 0, green = 0, blue = 0;
                for (int i = 1; i < column.length; i++) {
                    int pixel = pixels[y * width + (int) column[0] + i - 1];
                    red += column[i] * (pixel >> 16 & 255);
                    green += column[i] * (pixel >> 8 & 255);
                    blue += column[i] * (pixel & 255);
                }
                int to = (y * toWidth + x) * 3;
                narrow[to] = (float) red;
                narrow[to + 1] = (float) green;
                narrow[to + 2] = (float) blue;
            }
        }
        int[] result = new int[toWidth * toHeight];
        for (int y = 0; y < toHeight; y++) {
            for (int x = 0; x < toWidth; x++) {
                int colour = 255;
                for (int channel = 0; channel < 3; channel++) {
                    double sum = 0;
                    for (int i = 1; i < rows[y].length; i++) {
                        int row = (int) rows[y][0] + i - 1;
                        sum += rows[y][i] * narrow[(row * toWidth + x) * 3 + channel];
                    }
                    colour = colour << 8 | (int) Math.max(0, Math.min(255, Math.rint((float) sum)));
                }
                result[y * toWidth + x] = colour;
            }
        }
        return result;
    }

    /** Returns, for each pixel that is kept, the first source pixel and the weights from it on. */
    private static double[][] weights(int old, double scale, int count) {
        int resized = Math.max((int) Math.rint(old * scale), count);
        int offset = (resized - count) / 2;
        double step = (double) old / resized;
        double wide = Math.max(step, 1);
        double[][] result = new double[count][];
        for (int i = 0; i < count; i++) {
            double center = (offset + i + 0.5) * step - 0.5;
            int first = (int) Math.max(0, Math.ceil(center - wide));
            int last = (int) Math.min(old - 1, Math.floor(center + wide));
            double sum = 0;
            result[i] = new double[last - first + 2];
            result[i][0] = first;
            for (int pixel = first; pixel <= last; pixel++) {
                double weight = Math.max(0, 1 - Math.abs(pixel - center) / wide);
                result[i][pixel - first + 1] = weight;
                sum += weight;
            }
            for (int j = 1; j < result[i].length; j++) {
                result[i][j] /= sum;
            }
        }
        return result;
    }
}
