package dflockd.client;

import java.math.*;
import java.util.*;
import java.util.regex.*;
import java.util.stream.*;

/**
 * JSON (RFC 8259) to Map, List, String, Long, BigInteger, Double, Boolean and null, and back.
 * Invariant: a text that is not JSON is an IllegalArgumentException, whose message has nothing of the text.
 */
final class Json {
    private static final int DEPTH_MAX = 64;
    private static final Pattern SCALAR =
            Pattern.compile("true|false|null|-?(?:0|[1-9][0-9]*+)((?:\\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+)");
    private static final Pattern UNICODE = Pattern.compile("u[0-9a-fA-F]{4}");
    private static final String ESCAPES = "\"\\/bfnrt";
    private static final String ESCAPED = "\"\\/\b\f\n\r\t";

    private final String text;
    private int at;

    private Json(String text) { this.text = text; }

    static Object read(String text) {
        Json json = new Json(text);
        Object value = json.value(0);
        json.require(!json.skip('\0') && json.at == text.length());
        return value;
    }

    static String write(Object value) { return write(value, 0); }

    private Object value(int depth) {
        require(depth <= DEPTH_MAX);
        if (skip('{')) {
            Map<String, Object> members = new LinkedHashMap<>();
            if (skip('}')) return members;
            do {
                require(skip('"'));
                String name = string();
                require(skip(':'));
                members.put(name, value(depth + 1));
            } while (skip(','));
            require(skip('}'));
            return members;
        }
        if (skip('[')) {
            List<Object> items = new ArrayList<>();
            if (skip(']')) return items;
            do items.add(value(depth + 1));
            while (skip(','));
            require(skip(']'));
            return items;
        }
        if (skip('"')) return string();
        Matcher scalar = SCALAR.matcher(text).region(at, text.length());
        require(scalar.lookingAt());
        at = scalar.end();
        String word = scalar.group();
        if (word.equals("null")) return null;
        if (scalar.group(1) == null) return word.equals("true");
        if (!scalar.group(1).isEmpty()) return Double.valueOf(word);
        BigInteger number = new BigInteger(word);
        return number.bitLength() < Long.SIZE ? (Object) number.longValue() : number;
    }

    /** The rest of a string whose opening quote has been read. */
    private String string() {
        StringBuilder out = new StringBuilder();
        while (true) {
            require(at < text.length() && text.charAt(at) >= ' ');
            char sign = text.charAt(at++);
            if (sign == '"') return out.toString();
            if (sign == '\\') {
                int escape = at < text.length() ? ESCAPES.indexOf(text.charAt(at)) : -1;
                require(escape >= 0 || UNICODE.matcher(text).region(at, text.length()).lookingAt());
                sign = escape >= 0 ? ESCAPED.charAt(escape)
                                   : (char) Integer.parseInt(text.substring(at + 1, at + 5), 16);
                at += escape >= 0 ? 1 : 5;
            }
            out.append(sign);
        }
    }

    /** Steps over blanks, and over this sign if it follows. */
    private boolean skip(char sign) {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) at++;
        if (at == text.length() || text.charAt(at) != sign) return false;
        at++;
        return true;
    }

    private void require(boolean isJson) {
        if (!isJson) throw new IllegalArgumentException("not JSON at character " + at);
    }

    private static String write(Object value, int depth) {
        if (depth > DEPTH_MAX) throw new IllegalArgumentException("want at most " + DEPTH_MAX + " levels");
        if (value instanceof Map)
            return ((Map<?, ?>) value)
                    .entrySet()
                    .stream()
                    .map(member -> quote(String.valueOf(member.getKey())) + ":" + write(member.getValue(), depth + 1))
                    .collect(Collectors.joining(",", "{", "}"));
        if (value instanceof Iterable)
            return StreamSupport.stream(((Iterable<?>) value).spliterator(), false)
                    .map(item -> write(item, depth + 1))
                    .collect(Collectors.joining(",", "[", "]"));
        if (value instanceof CharSequence) return quote(value.toString());
        if (value == null || value instanceof Boolean) return String.valueOf(value);
        if (value instanceof Number && Double.isFinite(((Number) value).doubleValue()))
            return new BigDecimal(value.toString()).toString();
        throw new IllegalArgumentException("a " + value.getClass().getSimpleName()
                + ": want maps, lists, texts, finite numbers, booleans or null");
    }

    private static String quote(String value) {
        StringBuilder out = new StringBuilder("\"");
        for (char sign : value.toCharArray()) {
            if (sign == '"' || sign == '\\') out.append('\\');
            out.append(sign < ' ' ? String.format("\\u%04x", (int) sign) : String.valueOf(sign));
        }
        return out.append('"').toString();
    }
}
