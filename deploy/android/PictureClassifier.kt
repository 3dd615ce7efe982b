// Classifies bitmaps by a file of `keras-resnet export --client android`, with MediaPipe's task.
//
// MediaPipe resizes the whole bitmap to the net's input, without regard to its shape and without
// antialiasing. The net expects centre crops that are resized with antialiasing, so `CentreCrop`
// makes these first: MediaPipe then has nothing to resize.

package org.example.classifier // your package

import android.content.Context
import android.graphics.Bitmap
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.core.RunningMode
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier

data class Prediction(val name: String, val probability: Float)

/**
 * @param model name of the file in `app/src/main/assets`
 * @param width, height the net's input, as `manifest.json` states under `preprocess.size`
 * @param cropFraction `preprocess.crop_fraction` of `manifest.json`
 */
class PictureClassifier(
    context: Context,
    model: String = "model.tflite",
    private val width: Int,
    private val height: Int,
    private val cropFraction: Double = 1.0,
    shown: Int = 5,
) : AutoCloseable {
    private val classifier = ImageClassifier.createFromOptions(
        context,
        ImageClassifier.ImageClassifierOptions.builder()
            .setBaseOptions(BaseOptions.builder().setModelAssetPath(model).build())
            .setRunningMode(RunningMode.IMAGE)
            .setMaxResults(shown)
            .build(),
    )

    /** Returns the most probable classes of an upright bitmap, the first the most probable. */
    fun classify(bitmap: Bitmap): List<Prediction> {
        val result = classifier.classify(BitmapImageBuilder(prepare(bitmap)).build())
        return result.classificationResult().classifications().first().categories()
            .map { Prediction(it.categoryName(), it.score()) }
    }

    private fun prepare(bitmap: Bitmap): Bitmap {
        val pixels = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        val part = CentreCrop.fit(pixels, bitmap.width, bitmap.height, width, height, cropFraction)
        return Bitmap.createBitmap(part, width, height, Bitmap.Config.ARGB_8888)
    }

    override fun close() = classifier.close()
}
