// Dropout by counted draws, number for number those of xqg_kernel::dropout: `lowbias32` (Wellons
// 2018) of a number's place in its unpadded text, with half of the text's key before each round.

extern "C" __global__ void xqg_drop(
    const unsigned long long count,   // numbers in all
    const unsigned long long size,    // numbers of a text, padding included
    const unsigned period,            // rows after which the next head begins
    const unsigned width,             // length of a row, padding included
    const unsigned threshold,         // draws below it are left out
    const float scale,                // of the numbers that stay
    const unsigned *__restrict__ texts, // low half of the key, high half, length before padding
    const float *__restrict__ x,
    float *__restrict__ y)
{
    const unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
        const unsigned *text = texts + 3 * (i / size);
        const unsigned place = (unsigned)(i % size);
        const unsigned row = place / width, column = place % width, length = text[2];
        const unsigned counter = (row / period * length + row % period) * length + column;
        unsigned draw = (counter * 0x9e3779b9u) ^ text[0];
        draw = (draw ^ (draw >> 16)) * 0x21f0aaadu + text[1];
        draw = (draw ^ (draw >> 15)) * 0xd35a2d97u;
        draw ^= draw >> 15;
        y[i] = draw >= threshold ? x[i] * scale : 0.0f * x[i];
    }
}
