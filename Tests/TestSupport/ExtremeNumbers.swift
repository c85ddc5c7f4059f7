/// Numbers as others may write them, for every parser that reads one from outside: what it does with them is its own
/// (refuse, bound, take), but it ends, and no arithmetic on them traps.
package enum ExtremeNumbers {
    /// Around the ends of every width, and beyond all of them.
    package static let integers: [String] = [
        "0", "1", "-1", "127", "128", "255", "256", "32767", "32768", "65535", "65536", "2147483647", "2147483648",
        "-2147483648", "-2147483649", "4294967295", "4294967296", "4503599627370496", "9007199254740993",
        "4611686018427387903", "4611686018427387904", "9223372036854775806", "9223372036854775807",
        "9223372036854775808", "-9223372036854775807", "-9223372036854775808", "-9223372036854775809",
        "18446744073709551615", "18446744073709551616", "99999999999999999999999999999999999999999",
    ]

    /// What is nearly a number.
    package static let malformed: [String] = [
        "", " ", "+1", "--1", "1-", "0x7fffffffffffffff", "0777777777777777777777", "1e308", "1e400", "-1e400", "nan",
        "inf", "-inf", "1.5", "1,5", "١", "1 ", " 1", "1\t", "1_000", "½",
    ]

    package static let all = integers + malformed

    /// Those that fit a signed 64-bit number, for fields of binary formats and of JSON.
    package static let signed: [Int64] = [
        .min, .min + 1, -4_294_967_296, -1, 0, 1, 4_294_967_295, 4_294_967_296, 1 << 50, 1 << 62, .max - 1, .max,
    ]
}
