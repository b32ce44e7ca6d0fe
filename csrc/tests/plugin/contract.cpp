// The contract file, selective_scan.json, says what the plugin does: read off the plugin and compared.
#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "driver.h"
#include "tests.h"

namespace {

// The contract as the plugin itself shows it, in the order and the words of selective_scan.json, without spaces.
std::string contract() {
    const Plugin plugin = create(1, kAll);
    const auto quoted = [](const std::string& text) { return "\"" + text + "\""; };
    const auto list = [](const std::vector<std::string>& items) {
        std::string text;
        for (const std::string& item : items) text += (text.empty() ? "" : ",") + item;
        return "[" + text + "]";
    };
    const auto type_name = [](DataType type) {
        return std::string(type == kFloat ? "float32" : type == kHalf ? "float16" : "?");
    };
    const auto supports = [&](std::size_t position, Types types, DataType asked) {
        DescribedBounds bounds(kAll, types, {1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2, 3, 4});
        std::vector<DynamicPluginTensorDesc> all = bounds.in;
        all.insert(all.end(), bounds.out.begin(), bounds.out.end());
        all[position].desc.type = asked;
        return build(plugin).supportsFormatCombination(static_cast<std::int32_t>(position), all.data(), 9, 2);
    };

    std::vector<std::string> types;
    std::vector<Types> found;
    for (DataType data : {kFloat, kHalf, DataType::kBF16}) {
        for (DataType delta : {kFloat, kHalf, DataType::kBF16}) {
            if (!supports(0, {data, delta}, data) || !supports(1, {data, delta}, delta)) continue;
            found.push_back({data, delta});
            types.push_back("{\"T\":" + quoted(type_name(data)) + ",\"T_delta\":" + quoted(type_name(delta)) + "}");
        }
    }
    const auto rule = [&](std::size_t position) {
        if (position == 1) return "T_delta";
        const bool always_float =
            std::all_of(found.begin(), found.end(), [&](Types t) { return supports(position, t, kFloat); });
        const bool as_u =
            std::all_of(found.begin(), found.end(), [&](Types t) { return supports(position, t, t.data); });
        return as_u ? "T" : always_float ? "float32" : "?";
    };

    // A tensor of a rank that nothing has is refused by name, with the shape it should have.
    const auto between = [](const std::string& text, const std::string& start, const std::string& end) {
        const std::size_t from = text.find(start);
        const std::size_t to = from == std::string::npos ? from : text.find(end, from + start.size());
        EXPECT(to != std::string::npos, "no %s ... %s in %s", start.c_str(), end.c_str(), text.c_str());
        return to == std::string::npos ? "" : text.substr(from + start.size(), to - from - start.size());
    };
    const auto name_and_shape = [&](int optional, std::size_t position) {
        Described wrong(optional, kTypes[0], {1, 2, 3, 4});
        wrong[position].dims.nbDims = 7;
        std::fill(wrong[position].dims.d, wrong[position].dims.d + 7, 1);
        EXPECT(!wrong.accepted_by(create(1, optional)), "rank 7 was accepted");
        const std::string message = message_of("rank 7");
        return std::array<std::string, 2>{between(message, "put ", " has the shape"),
                                          between(message, "expected ", " = ")};
    };
    const auto bit_of = [&](const std::string& name) {
        int bits = 0;
        for (int bit : {1, 2, 4, 8}) {
            bool there = false;
            for (std::size_t i = 0; i < 8; ++i) there = there || name_and_shape(kAll - bit, i)[0] == name;
            if (!there) bits += bit;
        }
        return bits;
    };
    std::vector<std::string> inputs, outputs;
    for (std::size_t i = 0; i < 11; ++i) {
        const auto [name, shape] = name_and_shape(kAll, i);
        std::string text = "{\"name\":" + quoted(name) + ",\"shape\":" + quoted(shape) + ",\"type\":" + quoted(rule(i));
        if (i < 9) text += ",\"optional\":" + std::to_string(bit_of(name));
        (i < 9 ? inputs : outputs).push_back(text + "}");
    }

    std::vector<std::string> attributes;
    const PluginFieldCollection* fields = library.creator->getFieldNames();
    const Attributes defaults = serialised(create({}));
    for (std::int32_t i = 0; i < fields->nbFields; ++i) {
        std::vector<std::int32_t> accepted;
        for (std::int32_t value = -300; value <= 300; ++value) {
            if (create({{fields->fields[i].name, &value, PluginFieldType::kINT32, 1}}) != nullptr)
                accepted.push_back(value);
        }
        logger.messages.clear();
        EXPECT(accepted.back() - accepted.front() + 1 == static_cast<std::int32_t>(accepted.size()), "a hole");
        const std::string name = fields->fields[i].name;
        const std::int32_t value = name == "delta_softplus" ? defaults.delta_softplus : defaults.optional_inputs;
        attributes.push_back(
            "{\"name\":" + quoted(name) + ",\"type\":\"int32\",\"minimum\":" + std::to_string(accepted.front()) +
            ",\"maximum\":" + std::to_string(accepted.back()) + ",\"default\":" + std::to_string(value) + "}");
    }

    std::int64_t most = 0;
    while (most < 1024 && Described(kAll, kTypes[0], {1, 2, 3, most + 1}).accepted_by(plugin)) ++most;
    logger.messages.clear();

    return "{\"name\":" + quoted(library.creator->getPluginName()) +
           ",\"namespace\":" + quoted(library.creator->getPluginNamespace()) +
           ",\"version\":" + quoted(library.creator->getPluginVersion()) +
           ",\"format\":\"linear\",\"types\":" + list(types) + ",\"inputs\":" + list(inputs) +
           ",\"outputs\":" + list(outputs) + ",\"attributes\":" + list(attributes) +
           ",\"maximum_states\":" + std::to_string(most) + "}";
}

}  // namespace

void test_contract(const char* path) {
    std::ifstream file(path);
    std::string written((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    written.erase(std::remove_if(written.begin(), written.end(), [](char c) { return c == ' ' || c == '\n'; }),
                  written.end());
    const std::string shown = contract();
    EXPECT(written == shown, "%s\n  file   %s\n  plugin %s", path, written.c_str(), shown.c_str());
}
